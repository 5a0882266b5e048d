"""The state of cores and GPUs around each sample: a pair that was measured on a disturbed device is no pair.

Whether it was is read off the device alone, never off what was measured.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.measure.nvml import gpu_processes, gpus

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETTLE_SECONDS = 10.0
_STOLEN_SHARE, _STOLEN_SECONDS = 0.01, 0.02  # of a sample, and beyond what the kernel's ticks can resolve
_SWAPPED_MIB = 1.0
_STEP_SECONDS = 0.1
# Reasons that mean the device could not run as it should: hardware slowdown, thermal (software, hardware), power brake
# (NVML's nvmlClocksEventReason constants). A power cap is ordinary under load, and is only recorded.
_SLOWED = {0x08: "hardware slowdown", 0x20: "heat", 0x40: "heat", 0x80: "power brake"}


@dataclass(frozen=True)
class DeviceState:
    """One GPU at one moment, between samples: clocks in MHz, temperature in degrees Celsius, memory in MiB.

    `throttle` is NVML's bit mask of clock event reasons; `processes` are those that compute there.
    """

    uuid: str
    sm_clock_mhz: int
    memory_clock_mhz: int
    temperature_c: int
    memory_used_mib: int
    throttle: int
    processes: tuple[int, ...]

    def record(self) -> dict[str, object]:
        """As a line of `measurements.jsonl` holds it."""
        return asdict(self)


@dataclass(frozen=True)
class HostState:
    """A host's own counters at one moment, in seconds but for `swapped`, in MiB.

    `stolen` is what the hypervisor took of the lane's cores, `throttled` what the container's quota held back, `step`
    by how much the wall clock is ahead of the monotonic one.
    """

    at: float
    stolen: float
    throttled: float
    swapped: float
    step: float


def host_state(cores: Sequence[int]) -> HostState:
    """The host's counters now; what the kernel does not show stays 0."""
    names, stolen = {f"cpu{core}" for core in cores}, 0
    with suppress(OSError), Path("/proc/stat").open() as rows:
        stolen = sum(int(row.split()[8]) for row in rows if row.partition(" ")[0] in names)
    pages = sum(_counter(Path("/proc/vmstat"), name) for name in ("pswpin", "pswpout"))
    quota = _quota()
    throttled = 0.0
    if quota is not None:  # the second name is version 1's
        throttled = _counter(quota, "throttled_usec") / 1e6 + _counter(quota, "throttled_time") / 1e9
    now = time.monotonic()
    return HostState(
        at=now,
        stolen=stolen / os.sysconf("SC_CLK_TCK"),
        throttled=throttled,
        swapped=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        step=time.time() - now,
    )


def host_disturbance(before: HostState, after: HostState) -> str:
    """Why what was measured between two looks does not count, or ""."""
    seconds = after.at - before.at
    if after.stolen - before.stolen > max(_STOLEN_SHARE * seconds, _STOLEN_SECONDS):
        return f"the hypervisor took {after.stolen - before.stolen:.2f} s of the lane's cores"
    if after.throttled > before.throttled:
        return "the container's CPU quota held its processes back"
    if after.swapped - before.swapped > _SWAPPED_MIB:
        return f"the host swapped {after.swapped - before.swapped:.0f} MiB"
    if abs(after.step - before.step) > _STEP_SECONDS:
        return "the host's clock was set"
    return ""


def _counter(file: Path, name: str) -> int:
    with suppress(OSError), file.open() as rows:
        return next((int(row.split()[1]) for row in rows if row.startswith(f"{name} ")), 0)
    return 0


@lru_cache(maxsize=1)
def _quota() -> Path | None:
    """Where the kernel counts what this process's CPU quota held back (control groups, either version)."""
    with suppress(OSError):
        for row in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = row.split(":", 2)
            for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu"):
                file = Path(top + group) / "cpu.stat"
                if (not controllers or "cpu" in controllers.split(",")) and file.is_file():
                    return file
    return None


def look(uuids: Sequence[str]) -> tuple[DeviceState, ...]:
    """The state of these GPUs now; nothing for one that the driver does not show."""
    if not uuids:
        return ()
    busy = gpu_processes()
    return tuple(
        DeviceState(
            gpu.uuid,
            gpu.sm_clock_mhz or 0,
            gpu.memory_clock_mhz or 0,
            gpu.temperature_c or 0,
            gpu.memory_used_mib or 0,
            gpu.throttle or 0,
            tuple(process.pid for process in busy if process.gpu_uuid == gpu.uuid),
        )
        for gpu in gpus()
        if gpu.uuid in uuids
    )


def settled(uuids: Sequence[str]) -> tuple[DeviceState, ...]:
    """The state of these GPUs once nobody computes there: a process that was ended takes a moment to leave its GPU.

    After ten seconds it is the state that they are in.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        states = look(uuids)
        if time.monotonic() >= deadline or not any(state.processes for state in states):
            return states
        time.sleep(0.1)


def memory_used(uuids: Sequence[str]) -> float:
    """Memory taken on these GPUs together now, MiB, by whoever; 0 for none."""
    return float(sum(gpu.memory_used_mib or 0 for gpu in gpus() if gpu.uuid in uuids)) if uuids else 0.0


def disturbance(before: Sequence[DeviceState], after: Sequence[DeviceState]) -> str:
    """Why what was measured between two looks does not count, or ""."""
    if len(before) != len(after):
        return "a GPU went away"
    for state in (*before, *after):
        if state.processes:
            return f"process {state.processes[0]} computes on the same GPU"
    for state in after:
        for bit, reason in _SLOWED.items():
            if state.throttle & bit:
                return f"the GPU's clocks are held down ({reason})"
    return ""
