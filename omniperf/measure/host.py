"""What this host is, as far as it can change a measurement: goes into every result as `environment`."""

from __future__ import annotations

import csv
import ctypes
import hashlib
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "triton", "numpy")
_CPU = Path("/sys/devices/system/cpu")
_NVIDIA_SMI_SECONDS = 20


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it; memory in MiB, clocks in MHz, None where the driver does not say."""

    index: int
    name: str
    uuid: str
    driver: str
    memory_mib: int | None
    memory_used_mib: int | None
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    max_sm_clock_mhz: int | None
    persistence: str


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory of a GPU."""

    gpu_uuid: str
    pid: int
    name: str
    memory_mib: int | None


@lru_cache(maxsize=1)
def host_facts() -> dict[str, Any]:
    """Return the facts of this host, looked up once a process. Treat the dictionary as frozen.

    The host's name stays out: `host` is a hash that tells two hosts apart and names neither.
    """
    return {
        "host": hashlib.sha256(f"{platform.node()}\0{_machine_id()}".encode()).hexdigest()[:16],
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "cpu": {
            "model": cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "host_cores": os.cpu_count(),
            "governor": governor(),
            "load_1min": round(os.getloadavg()[0], 2),
        },
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [asdict(gpu) for gpu in gpus()],
        "cuda_driver": cuda_driver(),
        "packages": {name: found for name in _PACKAGES if (found := package_version(name))},
    }


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.machine()


def governor() -> str | None:
    """Return the frequency governor of the first core this process may use; None where the kernel shows none."""
    core = min(os.sched_getaffinity(0))
    try:
        return (_CPU / f"cpu{core}" / "cpufreq" / "scaling_governor").read_text().strip()
    except OSError:
        return None


def gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs that the driver shows; none where there is no driver, or it does not answer."""
    fields = (
        "index,name,uuid,driver_version,memory.total,memory.used,"
        "clocks.current.sm,clocks.current.memory,clocks.max.sm,persistence_mode"
    )
    found = []
    for row in nvidia_smi(f"--query-gpu={fields}") or []:
        if len(row) == 10:
            index, name, uuid, driver, *numbers, persistence = row
            total, used, clock, memory_clock, max_clock = map(_number, numbers)
            found.append(Gpu(int(index), name, uuid, driver, total, used, clock, memory_clock, max_clock, persistence))
    return found


def gpu_processes() -> list[GpuProcess]:
    """Return the processes that compute on a GPU, as far as this user and this container may see them."""
    rows = nvidia_smi("--query-compute-apps=gpu_uuid,pid,process_name,used_memory") or []
    return [
        GpuProcess(row[0], int(row[1]), row[2], _number(row[3])) for row in rows if len(row) == 4 and row[1].isdigit()
    ]


def nvidia_smi(query: str) -> list[list[str]] | None:
    """Return the rows of an `nvidia-smi` query; None where it is missing or fails."""
    command = ("nvidia-smi", query, "--format=csv,noheader,nounits")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [row for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True) if row]


def cuda_driver() -> str | None:
    """Return the CUDA version that the driver supports. Asks the driver's library, which makes no context on a GPU."""
    number = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    return None if failed or not number.value else f"{number.value // 1000}.{number.value % 1000 // 10}"


def package_version(name: str) -> str | None:
    """Return the version of an installed package without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    """A field of nvidia-smi, which writes `[N/A]` and the like where it has no number."""
    try:
        return round(float(text))
    except ValueError:
        return None
