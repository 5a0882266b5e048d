"""The state of GPUs around each pair: a pair that was measured on a disturbed device is no pair."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from omniperf.measure.nvml import gpu_processes, gpus

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETTLE_SECONDS = 10.0
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
