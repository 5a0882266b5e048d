"""The host's facts and the doctor's answers: with a GPU that a made-up driver describes, and without one."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from omniperf.measure import doctor, host, nvml
from omniperf.measure.doctor import Check, checks
from omniperf.sandbox import container
from omniperf.settings import Settings, load_settings

FakeGpu = Callable[..., None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load_settings({"cache": tmp_path / "cache"})


class Driver:
    """What NVML answers on a host with one GPU; what is not among `answers` it does not support."""

    def __init__(self, uuid: str, answers: dict[str, Any]) -> None:
        self.answers = {"nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": "handle", **answers}
        self.nvmlDeviceGetUUID = lambda _: uuid

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)
        if isinstance(real, type | int):
            return real

        def answer(*_: object) -> Any:
            if name not in self.answers:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return self.answers[name]

        return answer


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Have NVML's library open, with these answers. A GPU is what cannot be had everywhere."""

    def make(uuid: str = "GPU-8354", **answers: Any) -> None:
        monkeypatch.setattr(nvml, "_opened", lambda: Driver(uuid, answers))
        monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")

    return make


def h200(used: int = 0) -> dict[str, Any]:
    return {
        "nvmlDeviceGetName": "NVIDIA H200",
        "nvmlSystemGetDriverVersion": "580.159.04",
        "nvmlSystemGetCudaDriverVersion": 13000,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=143771 << 20, used=used << 20),
        "nvmlDeviceGetClockInfo": 345,
        "nvmlDeviceGetMaxClockInfo": 1980,
        "nvmlDeviceGetTemperature": 31,
        "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 1,
        "nvmlDeviceGetComputeRunningProcesses": [],
    }


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_facts_name_what_can_change_a_measurement_and_not_the_host() -> None:
    facts = host.host_facts()
    assert facts["python"] == platform.python_version()
    assert facts["cpu"]["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert platform.node() not in json.dumps(facts)
    assert host.host_facts() is facts


def test_a_host_without_a_gpu_is_told_so_in_one_line_and_does_not_fail(
    here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(nvml, "_opened", lambda: None)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this host has a GPU")
    about_gpu = [check for check in checks(here) if "GPU" in check.name or "CUDA" in check.name]
    assert about_gpu == [Check("GPU", "info", "no NVIDIA GPU: only CPU tasks can run")]


def test_a_gpu_is_described(here: Settings, fake_gpu: FakeGpu) -> None:
    fake_gpu(**h200())
    assert nvml.gpus() == [
        nvml.Gpu(0, "NVIDIA H200", "GPU-8354", "580.159.04", 143771, 0, 345, 345, 1980, persistence=True,
                 temperature_c=31, throttle=1)
    ]  # fmt: skip
    assert nvml.cuda_driver() == "13.0"
    found = by_name(checks(here))
    assert found["GPU 0"].detail == "NVIDIA H200, driver 580.159.04, 345 of 1980 MHz, GPU-8354"
    assert found["GPU 0 memory"] == Check("GPU 0 memory", "ok", "140.4 of 140.4 GiB free")
    assert found["GPU processes"].status == "ok"


def test_memory_in_use_and_foreign_processes_are_warned_of(here: Settings, fake_gpu: FakeGpu) -> None:
    process = SimpleNamespace(pid=416, usedGpuMemory=69000 << 20)
    processes = {"nvmlDeviceGetComputeRunningProcesses": [process], "nvmlSystemGetProcessName": "/usr/bin/python3"}
    fake_gpu(**{**h200(used=70000), **processes})
    found = by_name(checks(here))
    assert found["GPU 0 memory"].status == "warn"
    assert found["GPU processes"].detail == "416 (python3) on GPU 0"
    assert found["GPU processes"].remedy


def test_fields_that_the_driver_does_not_tell_are_none(here: Settings, fake_gpu: FakeGpu) -> None:
    fake_gpu("GPU-1", nvmlDeviceGetComputeRunningProcesses=[SimpleNamespace(pid=7, usedGpuMemory=None)])
    assert nvml.gpus() == [nvml.Gpu(0, "unknown", "GPU-1", "unknown")]
    assert nvml.gpu_processes() == [nvml.GpuProcess("GPU-1", 7, "", None)]
    assert nvml.cuda_driver() is None
    assert "GPU 0 memory" not in by_name(checks(here))


def test_a_driver_that_shows_no_gpu_is_a_warning(here: Settings, fake_gpu: FakeGpu) -> None:
    fake_gpu(nvmlDeviceGetCount=0)
    assert nvml.gpus() == []
    assert by_name(checks(here))["GPU"].status == "warn"


def test_a_folder_that_cannot_be_written_fails_and_low_disk_warns(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: "cache" in str(path))
    here.cache.mkdir()
    usage = type("Usage", (), {"free": 2 * 2**30})()
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    found = by_name(checks(here))
    assert found["results"].status == "fail"
    assert found["results"].remedy == "Choose another folder with --results."
    assert found["cache"].status == "warn"


@pytest.mark.parametrize(("governor", "status"), [("performance", "ok"), ("powersave", "warn"), (None, "info")])
def test_the_governor(here: Settings, monkeypatch: pytest.MonkeyPatch, governor: str | None, status: str) -> None:
    monkeypatch.setattr(host, "governor", lambda: governor)
    assert by_name(checks(here))["governor"].status == status


def test_an_old_git_fails(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_output", lambda *_: "git version 2.11.0")
    assert by_name(checks(here))["git"] == Check("git", "fail", "git version 2.11.0", "Install git 2.31 or newer.")


def test_no_sandbox_fails_unless_none_was_chosen(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omniperf.sandbox.bubblewrap.find_bwrap", lambda: None)
    assert by_name(checks(here))["sandbox"].status == "fail"
    assert by_name(checks(load_settings({"sandbox": "none"})))["sandbox"].status == "info"


def test_what_was_asked_for_and_is_not_there_fails_and_nothing_else(
    here: Settings, tmp_path: Path, bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omniperf.sandbox.container.shutil.which", lambda name: None)
    container.why_not.cache_clear()
    unasked = by_name(checks(here))
    assert {unasked[name].status for name in ("docker", "podman", "cgroup")} == {"info"}
    asked = by_name(checks(load_settings({"sandbox": "docker", "cgroup": tmp_path})))
    assert asked["docker"].status == asked["cgroup"].status == "fail"
    assert asked["podman"].status == "info"
    assert "not found on PATH" in asked["docker"].detail
    assert "no control group of version 2" in asked["cgroup"].detail


def test_a_host_without_an_overlay_is_told_what_it_costs(
    here: Settings, bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omniperf.sandbox.bubblewrap.why_no_overlay", lambda mount: "wrong fs type")
    found = by_name(checks(here))["overlay"]
    assert (found.status, "copies the environment" in found.detail) == ("info", True)


def test_a_busy_host_may_leave_verdicts_inconclusive(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    (load,) = (check for check in checks(here) if check.name == "load")
    assert load.status == "warn"
    assert "become inconclusive" in load.remedy
