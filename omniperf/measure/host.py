"""What this host is, as far as it can change a measurement: goes into every result as `environment`."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omniperf.measure import nvml

_PACKAGES = ("torch", "triton", "numpy")
_CPU = Path("/sys/devices/system/cpu")


def host_id() -> str:
    """Return a hash that tells two hosts apart and names neither."""
    return hashlib.sha256(f"{platform.node()}\0{_machine_id()}".encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def host_facts() -> dict[str, Any]:
    """Return the facts of this host, looked up once a process. Treat the dictionary as frozen.

    The host's name stays out: there is only its `host_id`.
    """
    return {
        "host": host_id(),
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
        "gpus": [asdict(gpu) for gpu in nvml.gpus()],
        "cuda_driver": nvml.cuda_driver(),
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


@lru_cache
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
