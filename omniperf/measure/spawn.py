"""How a worker's process comes to be: a fresh interpreter in a fresh sandbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from omniperf.errors import InfraError
from omniperf.sandbox.spec import confined, environment, with_script

if TYPE_CHECKING:
    from omniperf.sandbox.spec import Backend, Spec

WORKER = Path(__file__).with_name("worker.py")


class Process(Protocol):
    """A worker's process and the pipes to it. `first` is the pid of the sandbox's first process, None without one."""

    requests: int
    replies: int
    first: int | None

    @property
    def pid(self) -> int:
        """The worker itself, as the host sees it, once it has answered. Raises ValueError where it is not alone."""
        ...

    def ending(self, seconds: float) -> tuple[int, str] | None:
        """How it ended (an exit status, or minus a signal) and the errors it printed; None while it lives."""
        ...

    def close(self) -> None:
        """End the process and everything it started."""
        ...


def start_script(backend: Backend, spec: Spec, script: Path) -> tuple[subprocess.Popen[bytes], int | None]:
    """Start a script of ours in a sandbox of its own; also the pid of the sandbox's first process, None without one.

    Raises InfraError (spawn) where the sandbox does not start.
    """
    spec = with_script(spec, script)
    info, info_inside = os.pipe()
    try:
        argv = confined(backend, spec, script)
        process = backend.start(spec, argv, environment(backend, spec), info_fd=info_inside)
    finally:
        os.close(info_inside)
    with os.fdopen(info, "rb") as told:
        said = told.read() if backend.isolated else b""
    if backend.isolated and not said:
        _, stderr = process.communicate()
        last = (stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise InfraError("spawn", f"The {backend.name} sandbox did not start ({last}).", "Run `omniperf doctor`.")
    return process, json.loads(said)["child-pid"] if said else None


class FreshProcess:
    """A new interpreter in a new sandbox: nothing in it is older than the sample that it serves."""

    def __init__(self, backend: Backend, spec: Spec) -> None:
        self._process, self.first = start_script(backend, spec, WORKER)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.requests, self.replies = self._process.stdin.fileno(), self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        """As `Process` has it."""
        return self._process.pid if self.first is None else only_child(self.first)

    def ending(self, seconds: float) -> tuple[int, str] | None:
        """As `Process` has it."""
        try:
            _, said = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        return self._process.returncode, said.decode(errors="replace")

    def close(self) -> None:
        """End the process and everything it started."""
        self._process.send_signal(signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def only_child(pid: int) -> int:
    """The one child of a sandbox's first process. Raises ValueError where it has none or several."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise ValueError(f"the sandbox holds {len(children)} processes where the worker should be")
    return int(children[0])
