"""What a sandbox contains and what it allows, said the same way for every backend."""

from __future__ import annotations

import marshal
import os
import subprocess
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.sandbox.supervised import Supervisor

_CONFINED = Path(__file__).with_name("confined.py")
FINISH = Path(__file__).with_name("finish")
"""The command `finish`, which does nothing; mounted for agents at /omniperf/bin, the last place of PATH."""

# Started as root, a sandbox runs as a uid that nobody else on the host has: limits on processes bind a user, and
# sandboxes of one user would share them. Derived from the harness's pid, since attempts are processes of their own.
_FIRST_UID, _UIDS = 0x40000, 0x10000


@dataclass(frozen=True)
class Mount:
    """A host path and where it is seen inside.

    With a `layer`, a folder of the sandbox's own, it can be written and stays as it is: what is written goes there.
    """

    source: Path
    target: str
    writable: bool = False
    layer: Path | None = None


@dataclass(frozen=True)
class Allowance:
    """Limits of everything that runs in one sandbox. Sizes in bytes.

    `scratch` is that of each temporary folder, which is memory; `disk` is what commands may leave in folders on disk.
    """

    memory: int = 4 * 2**30
    processes: int = 512
    files: int = 4096
    file_size: int = 4 * 2**30
    scratch: int = 2 * 2**30
    disk: int = 4 * 2**30
    cpus: int = 0  # 0: as many as there are; more than a wish only where sandboxes have control groups

    def rlimits(self, *, gpu: bool) -> dict[str, int]:
        """The limits that the kernel enforces per process (CUDA reserves far more address space than it uses)."""
        limits = {
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_FSIZE": self.file_size,
            "RLIMIT_CORE": 0,
        }
        return limits if gpu else {**limits, "RLIMIT_DATA": self.memory}


@dataclass(frozen=True)
class Spec:
    """One sandbox: what is mounted, the environment, what it may use. `/workspace` and `/env` must be mounted."""

    mounts: tuple[Mount, ...]
    interpreter: Path  # the prefix of the Python behind /env
    env: Mapping[str, str] = field(default_factory=dict)
    allowance: Allowance = Allowance()
    network: bool = False
    joins: tuple[int, ...] = ()  # descriptors of the namespaces of a network shared with other sandboxes
    gpu: bool = False
    cores: tuple[int, ...] = ()  # on which it is timed
    beside: tuple[int, ...] = ()  # on which it runs where it is not timed; none: on any
    host_packages: tuple[Path, ...] = ()  # folders of the host's own packages that stay visible, at their places
    mounts_more: bool = False  # its first process is ours and may make mounts; what it starts must give that up

    def source(self, target: str) -> Path:
        """The host path mounted at that target."""
        return next(mount.source for mount in self.mounts if mount.target == target)


class Backend(Protocol):
    """A way to run a command confined. `isolated` says whether it has namespaces of its own.

    `nests`: its sandboxes can share a network (`Spec.joins`) and make namespaces inside (`Spec.mounts_more`).
    """

    name: str
    isolated: bool
    nests: bool

    @property
    def own_user(self) -> bool:
        """Whether no process outside counts towards a sandbox's limit on processes, which is a user's."""
        ...

    def where(self, spec: Spec, target: str) -> str:
        """The path by which a command inside finds a mount's target."""
        ...

    def start(
        self,
        spec: Spec,
        argv: list[str],
        env: Mapping[str, str],
        *,
        stdin: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        bufsize: int = 0,
        info_fd: int | None = None,
        own_init: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start argv inside, in the workspace, with pipes; `info_fd` is told its parent's pid as JSON.

        With `info_fd` or `own_init`, killing the process ends everything inside.
        """
        ...

    def entered(self, spec: Spec) -> Supervisor | None:
        """A supervisor in a new sandbox without anything being started inside; None where it has to be started."""
        ...


def sandbox_uid() -> int | None:
    """The uid a sandbox drops to when it was started as root; None otherwise."""
    return _FIRST_UID + os.getpid() % _UIDS if os.getuid() == 0 else None


def with_script(spec: Spec, script: Path) -> Spec:
    """The spec with a script of ours, and the one that confines it, under /omniperf."""
    ours = [Mount(path, f"/omniperf/{path.name}") for path in (_CONFINED, script)]
    if (compiled := _compiled(script)).is_file():  # somebody may clear caches meanwhile
        ours.append(Mount(compiled, f"/omniperf/__pycache__/{compiled.name}"))
    return replace(spec, mounts=(*spec.mounts, *ours))


@lru_cache
def _compiled(script: Path) -> Path:
    """Where the script is as this Python compiles it, if it can be kept there; compiling anew delays every start."""
    SourceFileLoader(script.stem, str(script)).get_code(script.stem)
    return Path(cache_from_source(str(script)))


def confined(backend: Backend, spec: Spec, script: Path, *arguments: str) -> list[str]:
    """The argv, inside the sandbox, of a script of ours that `with_script` mounted; it confines itself first."""
    config = confinement(spec, isolated=backend.isolated, own_user=backend.own_user)
    ours = [backend.where(spec, f"/omniperf/{path.name}") for path in (_CONFINED, script)]
    python = f"{backend.where(spec, '/env')}/bin/python"
    return [python, "-S", "-s", ours[0], marshal.dumps(config, 2).hex(), ours[1], *arguments]


def confinement(spec: Spec, *, isolated: bool, own_user: bool = True) -> dict[str, object]:
    """What `confined.confine` is told."""
    limits = spec.allowance.rlimits(gpu=spec.gpu)
    if not own_user:  # a limit on processes would count the whole host's
        limits.pop("RLIMIT_NPROC")
    uid = sandbox_uid() if isolated else None
    return {"uid": uid, "rlimits": limits, "cores": list(spec.cores or spec.beside), "keep_out": isolated}


def environment(backend: Backend, spec: Spec) -> dict[str, str]:
    """The whole environment of a command inside: an allow-list, never the harness's own."""
    env = backend.where(spec, "/env")
    home = "/home/agent" if backend.isolated else backend.where(spec, "/workspace")
    return {
        "PATH": f"{env}/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin:/omniperf/bin",
        "HOME": home,
        "USER": "agent",
        "LOGNAME": "agent",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "VIRTUAL_ENV": env,
        "PYTHONHASHSEED": "0",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        **spec.env,
    }
