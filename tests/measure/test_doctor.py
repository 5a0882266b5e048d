"""The host's facts and the doctor's answers: with a GPU that a fake `nvidia-smi` describes, and without one."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from omniperf.measure import doctor, host
from omniperf.measure.doctor import Check, checks
from omniperf.settings import Settings, load_settings

GPU = "0, NVIDIA H200, GPU-8354, 580.159.04, 143771, {used}, 345, 3201, 1980, Enabled"
FakeGpu = Callable[..., None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load_settings({"cache": tmp_path / "cache"})


@pytest.fixture
def fake_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Put a `nvidia-smi` first on the path that prints these rows for GPUs and processes."""

    def make(gpus: str, processes: str = "", code: int = 0) -> None:
        binary = tmp_path / "bin" / "nvidia-smi"
        binary.parent.mkdir(exist_ok=True)
        binary.write_text(
            f'#!/bin/sh\ncase "$1" in\n--query-gpu*) echo "{gpus}" ;;\n*) printf "{processes}" ;;\nesac\nexit {code}\n'
        )
        binary.chmod(0o755)
        monkeypatch.setenv("PATH", str(binary.parent), prepend=":")

    return make


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
    monkeypatch.setattr(host, "nvidia_smi", lambda _: None)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this host has a GPU")
    about_gpu = [check for check in checks(here) if "GPU" in check.name or "CUDA" in check.name]
    assert about_gpu == [Check("GPU", "info", "no NVIDIA GPU: only CPU tasks can run")]


def test_a_gpu_is_described(here: Settings, fake_gpu: FakeGpu) -> None:
    fake_gpu(GPU.format(used=0))
    (gpu,) = host.gpus()
    assert (gpu.name, gpu.uuid, gpu.driver, gpu.memory_mib) == ("NVIDIA H200", "GPU-8354", "580.159.04", 143771)
    found = by_name(checks(here))
    assert found["GPU 0"].detail == "NVIDIA H200, driver 580.159.04, 345 of 1980 MHz, GPU-8354"
    assert found["GPU 0 memory"] == Check("GPU 0 memory", "ok", "140.4 of 140.4 GiB free")
    assert found["GPU processes"].status == "ok"


def test_memory_in_use_and_foreign_processes_are_warned_of(here: Settings, fake_gpu: FakeGpu) -> None:
    fake_gpu(GPU.format(used=70000), r"GPU-8354, 416, /usr/bin/python3, 69000\n")
    found = by_name(checks(here))
    assert found["GPU 0 memory"].status == "warn"
    assert found["GPU processes"].detail == "416 (python3) on GPU 0"
    assert found["GPU processes"].remedy


def test_fields_that_the_driver_does_not_tell_are_none(here: Settings, fake_gpu: FakeGpu) -> None:
    fake_gpu(
        "0, NVIDIA GB10, GPU-1, 580.1, [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]", r"GPU-1, 7, [Not Found], [N/A]\n"
    )
    (gpu,) = host.gpus()
    assert gpu.memory_mib is None
    assert host.gpu_processes() == [host.GpuProcess("GPU-1", 7, "[Not Found]", None)]
    assert "GPU 0 memory" not in by_name(checks(here))


def test_a_driver_that_does_not_answer_is_a_warning(here: Settings, fake_gpu: FakeGpu) -> None:
    fake_gpu("No devices were found", code=6)
    assert host.gpus() == []
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
