"""The backends docker and podman: containers of an empty image, into which the same is mounted as into bubblewrap's.

Nothing is pulled: the system inside is the host's own, read-only. They are used only where somebody asks for them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omniperf.errors import InfraError
from omniperf.results.redact import keyless
from omniperf.sandbox.layer import copied
from omniperf.sandbox.spec import sandbox_uid
from omniperf.sandbox.system import gpu_nodes, host_packages, in_folders, system_folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.sandbox.spec import Mount, Spec
    from omniperf.sandbox.supervised import Supervisor

Program = Literal["docker", "podman"]

_FIRST = Path(__file__).with_name("first.py")
_MEMORY_BESIDE = 256 * 2**20  # so that the harness's own limit, which says what happened, comes first
_START_SECONDS, _LOOK_SECONDS, _ASK_SECONDS = 60.0, 0.01, 30.0


@lru_cache
def why_not(program: Program) -> str:
    """Why there can be no containers of that program on this host, from asking it; "" when there can."""
    if shutil.which(program) is None:
        return f"{program} was not found on PATH"
    try:
        engine = _engine(program)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"`{program} info` fails ({said.strip().splitlines()[-1]})"
    if program == "docker" and any("name=rootless" in option for option in engine.get("SecurityOptions") or ()):
        return "docker is rootless here, where only root inside could write what is yours; podman can do without"
    return ""


def _engine(program: Program) -> dict[str, Any]:
    """What the program says of its engine. Raises OSError, ValueError or SubprocessError."""
    said = _told(program, "info", "--format", "{{json .}}")
    engine: dict[str, Any] = json.loads(said)
    if engine.get("ServerErrors"):  # docker's client answers without a server, too
        raise ValueError(str(engine["ServerErrors"][-1]))
    return engine


@lru_cache
def limits(program: Program) -> frozenset[str]:
    """Which of memory and pids the engine can limit, by its control groups."""
    engine = _engine(program)
    if program == "docker":
        has = {"memory": engine.get("MemoryLimit"), "pids": engine.get("PidsLimit")}
        return frozenset(name for name, there in has.items() if there)
    return frozenset(engine["host"].get("cgroupControllers") or ()) & {"memory", "pids"}


@lru_cache
def _image(program: Program) -> str:
    """The image: the top folders that the host has as links, and nothing else. Made on first use."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for place in map(Path, system_folders(network=True)):
            entry = tarfile.TarInfo(place.name)
            entry.type, entry.mode = (tarfile.SYMTYPE, 0o777) if place.is_symlink() else (tarfile.DIRTYPE, 0o755)
            entry.linkname = str(place.readlink()) if place.is_symlink() else ""
            archive.addfile(entry)
    name = f"omniperf-empty:{hashlib.sha256(content.getvalue()).hexdigest()[:12]}"
    try:
        found = subprocess.run((program, "image", "inspect", name), capture_output=True, check=False, env=keyless())
        if found.returncode != 0:
            _told(program, "import", "-", name, given=content.getvalue())
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()[-1]
        raise InfraError("spawn", f"{program} cannot make an image ({said}).", "Run `omniperf doctor`.") from None
    return name


def _told(program: Program, *arguments: str, given: bytes = b"") -> str:
    """What the program prints. Raises OSError or SubprocessError, with the errors it printed as text."""
    try:
        command = (program, *arguments)
        done = subprocess.run(
            command, input=given, capture_output=True, check=True, timeout=_ASK_SECONDS, env=keyless()
        )
    except subprocess.CalledProcessError as error:
        error.stderr = error.stderr.decode(errors="replace")
        raise
    return done.stdout.decode(errors="replace")


class Container:
    """Runs commands in containers of their own, walled as bubblewrap's; without zygotes and shared networks."""

    isolated = True
    nests = False

    def __init__(self, program: Program) -> None:
        self.name: str = program
        self._program = program

    @property
    def own_user(self) -> bool:
        """As `Backend` has it: docker gives an ordinary user's containers that very user."""
        return self._program == "podman" or os.getuid() == 0

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
        """Start argv in a new container; the process is the program's client, without which the container ends."""
        name = f"omniperf-{secrets.token_hex(8)}"
        how = "start" if own_init or info_fd is not None else "become"
        first = ["/env/bin/python", "-I", "-S", "/omniperf/first.py", json.dumps(dict(env)), how, *argv]
        process = subprocess.Popen(
            [self._program, "run", "--name", name, *self._options(spec), _image(self._program), *first],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=keyless(),
            bufsize=bufsize,
        )
        if info_fd is not None and (pid := self._first_pid(name, process)):
            os.write(info_fd, json.dumps({"child-pid": pid}).encode())
        return process

    def entered(self, spec: Spec) -> Supervisor | None:  # noqa: ARG002 - the protocol's signature
        """Its supervisor starts inside."""
        return None

    def _first_pid(self, name: str, process: subprocess.Popen[bytes]) -> int:
        """The pid of the container's first process, 0 where it did not start."""
        asked = (self._program, "inspect", "--format", "{{.State.Pid}}", name)
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            said = subprocess.run(asked, capture_output=True, text=True, check=False, env=keyless()).stdout.strip()
            if said.isdigit() and int(said):
                return int(said)
            time.sleep(_LOOK_SECONDS)
        return 0

    def _options(self, spec: Spec) -> list[str]:
        """What the program is told of a container."""
        uid = sandbox_uid()
        user = f"{uid}:{uid}" if uid is not None else f"{os.getuid()}:{os.getgid()}"
        options = ["--rm", "--interactive", "--pull", "never", "--user", user, "--hostname", "omniperf"]
        options += ["--read-only", "--cap-drop", "ALL", "--ipc", "private", "--workdir", "/workspace"]
        options += ["--log-driver", "none"]
        options += ["--security-opt", "no-new-privileges", "--security-opt", "label=disable"]
        options += ["--network", "host" if spec.network else "none", "--shm-size", str(spec.allowance.scratch)]
        limited = limits(self._program)
        if "memory" in limited:
            options += ["--memory", str(spec.allowance.memory + _MEMORY_BESIDE)]
        if "pids" in limited:
            options += ["--pids-limit", str(spec.allowance.processes)]
        keeps_below = ""  # podman's temporary folders begin with what is below them
        if self._program == "podman":
            options += ["--read-only-tmpfs=false"]
            options += [] if os.getuid() == 0 else ["--userns", "keep-id"]
            keeps_below = ",notmpcopyup"
        scratch = f":rw,exec,nosuid,nodev,mode=1777,size={spec.allowance.scratch}{keeps_below}"
        for place in ("/tmp", "/home/agent"):  # noqa: S108 - the container's own
            options += ["--tmpfs", place + scratch]
        for hidden in host_packages(spec.interpreter):
            options += ["--tmpfs", f"{hidden}:ro,nosuid,nodev,mode=755,size=4096{keeps_below}"]
        system = system_folders(network=spec.network)
        shown = [Path(path) for path in system if Path(path).is_dir() and not Path(path).is_symlink()]
        shown += [] if in_folders(spec.interpreter, system) else [spec.interpreter]
        shown += [*spec.host_packages, *([Path("/sys")] if spec.gpu else [])]
        for path in shown:
            options += _bound(path, str(path), writable=False)
        for mount in spec.mounts:
            options += _bound(_source(mount), mount.target, writable=mount.writable)
        options += _bound(_FIRST, "/omniperf/first.py", writable=False)
        for node in gpu_nodes() if spec.gpu else ():
            options += ["--device", node] if not Path(node).is_dir() else []
        return options


def _source(mount: Mount) -> Path:
    return mount.source if mount.layer is None else copied(mount)


def _bound(source: Path, target: str, *, writable: bool) -> list[str]:
    fields = ["type=bind", f"source={source}", f"target={target}", *([] if writable else ["readonly"])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return ["--mount", line.getvalue()]
