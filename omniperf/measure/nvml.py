"""The GPUs of this host, as the management library (NVML) of NVIDIA's driver describes them.

The library stays open for the life of the process: to open it takes longer than all that it is asked. In a fork of a
process that has it open it finds no GPU, so it is closed before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, or one slice of a divided one, at one moment: memory in MiB, clocks in MHz, degrees Celsius.

    None where the driver does not say.
    `throttle` is the bit mask of the reasons for its clocks (NVML's nvmlClocksEventReason constants).
    """

    index: int
    name: str
    uuid: str
    driver: str
    memory_mib: int | None = None
    memory_used_mib: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    max_sm_clock_mhz: int | None = None
    persistence: bool | None = None
    temperature_c: int | None = None
    throttle: int | None = None

    @property
    def slice(self) -> bool:
        """Whether it is a slice; a process can use but one."""
        return self.uuid.startswith("MIG-")


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU; `name` is empty where the driver may not tell it."""

    gpu_uuid: str
    pid: int
    name: str
    memory_mib: int | None


def gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs that the driver shows; none where there is no driver, or it does not answer."""
    nvml = _opened()
    return [_described(nvml, index, handle) for index, handle in _handles(nvml)]


def gpu_processes() -> list[GpuProcess]:
    """Return the processes that compute on a GPU, as far as this user and this container may see them."""
    nvml, found = _opened(), []
    for _, handle in _handles(nvml):
        uuid = nvml.nvmlDeviceGetUUID(handle)
        for process in _told(nvml, "nvmlDeviceGetComputeRunningProcesses", handle) or []:
            name = _told(nvml, "nvmlSystemGetProcessName", process.pid) or ""
            found.append(GpuProcess(uuid, process.pid, name, _mib(process.usedGpuMemory)))
    return found


def cuda_driver() -> str | None:
    """Return the CUDA version that the driver supports."""
    nvml = _opened()
    number = _told(nvml, "nvmlSystemGetCudaDriverVersion") if nvml else None
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


@lru_cache(maxsize=1)
def _opened() -> Any:
    """NVML's Python module with the library open, or None where there is no driver."""
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return pynvml
    return None


def _close() -> None:
    if _opened.cache_info().currsize and (nvml := _opened()) is not None:
        _told(nvml, "nvmlShutdown")
    _opened.cache_clear()


os.register_at_fork(before=_close)


def _handles(nvml: Any) -> Iterator[tuple[int, Any]]:
    for index in range((nvml and _told(nvml, "nvmlDeviceGetCount")) or 0):
        handle = _told(nvml, "nvmlDeviceGetHandleByIndex", index)
        if handle is not None:
            slices = list(_slices(nvml, handle))
            yield from ((index, one) for one in slices or (handle,))


def _slices(nvml: Any, handle: Any) -> Iterator[Any]:
    """The slices of a GPU that is divided (MIG), each of which CUDA takes for a device of its own."""
    if (_told(nvml, "nvmlDeviceGetMigMode", handle) or (0,))[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return
    for number in range(_told(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        if (found := _told(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, number)) is not None:
            yield found


def _described(nvml: Any, index: int, handle: Any) -> Gpu:
    memory = _told(nvml, "nvmlDeviceGetMemoryInfo", handle, nvml.nvmlMemory_v2)
    return Gpu(
        index=index,
        name=_told(nvml, "nvmlDeviceGetName", handle) or "unknown",
        uuid=nvml.nvmlDeviceGetUUID(handle),
        driver=_told(nvml, "nvmlSystemGetDriverVersion") or "unknown",
        memory_mib=_mib(memory and memory.total),
        memory_used_mib=_mib(memory and memory.used),
        sm_clock_mhz=_told(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=_told(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
        max_sm_clock_mhz=_told(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        persistence=None if (mode := _told(nvml, "nvmlDeviceGetPersistenceMode", handle)) is None else bool(mode),
        temperature_c=_told(nvml, "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
        throttle=_told(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle),
    )


def _told(nvml: Any, function: str, *arguments: object) -> Any:
    """What the driver answers; None where it does not know."""
    try:
        return getattr(nvml, function)(*arguments)
    except nvml.NVMLError:
        return None


def _mib(count: int | None) -> int | None:
    return None if count is None else count >> 20
