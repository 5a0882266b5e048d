"""A standing sandbox: started once for an attempt, then asked to run commands."""

from __future__ import annotations

import marshal
import os
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from omniperf.sandbox.spec import environment
from omniperf.sandbox.supervised import started, unexpected_end

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from omniperf.errors import InfraError
    from omniperf.sandbox.spec import Backend, Spec

_OUTPUT_BYTES, _KEPT_BYTES = 64 * 2**20, 32 * 2**10
_READY_SECONDS = 30.0
_END_SECONDS = 5.0
_GRACE = 15.0  # seconds beyond a command's own limit after which the sandbox itself counts as dead


StoppedBy: TypeAlias = Literal["", "time", "output", "memory", "disk"]


@dataclass(frozen=True)
class Completed:
    """How a command ended. `exit_code` is negative for a signal; `output` is stdout and stderr, interleaved."""

    exit_code: int
    output: str
    seconds: float
    stopped_by: StoppedBy = ""
    dropped_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.exit_code == 0 and not self.stopped_by

    @property
    def ending(self) -> str:
        """In words."""
        if self.stopped_by:
            return f"was stopped at its {self.stopped_by} limit after {self.seconds:.1f} s"
        return f"ended with exit code {self.exit_code}" if self.exit_code >= 0 else f"died of signal {-self.exit_code}"


class StandingSandbox:
    """A sandbox with its supervisor. A context manager: leaving it ends every process inside."""

    def __init__(self, backend: Backend, spec: Spec) -> None:
        self.backend = backend
        self.spec = spec
        self.env = environment(backend, self.spec)
        self._workspace = backend.where(self.spec, "/workspace")
        self._on_disk = [backend.where(self.spec, one.target) for one in spec.mounts if one.writable]
        self._supervisor = backend.entered(spec) or started(backend, spec)
        self._buffer, self._said = b"", b""
        self._line(time.monotonic() + _READY_SECONDS)

    def run(
        self,
        command: str,
        seconds: float,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        kept_bytes: int = _KEPT_BYTES,
    ) -> Completed:
        """Run a shell command in the workspace; at its limit the whole process tree is killed.

        Of an output longer than `kept_bytes` only the beginning and the end are returned. Raises InfraError (spawn)
        when the sandbox itself has died.
        """
        request = {
            "command": command,
            "cwd": cwd or self._workspace,
            "env": {**self.env, **(env or {})},
            "seconds": seconds,
            "output_bytes": _OUTPUT_BYTES,
            "kept_bytes": kept_bytes,
            "memory_bytes": self.spec.allowance.memory,
            "folders": self._on_disk,
            "disk_bytes": self.spec.allowance.disk,
        }
        try:
            body = marshal.dumps(request, 2)
            self._supervisor.requests.write(b"%d\n" % len(body) + body)
        except (BrokenPipeError, ValueError):  # a closed pipe: it had died before
            raise self._died() from None
        deadline = time.monotonic() + seconds + _GRACE
        exit_code, stopped_by, took, dropped, length = self._line(deadline).split()
        return Completed(
            exit_code=int(exit_code),
            output=self._bytes(int(length), deadline).decode("utf-8", "replace"),
            seconds=float(took),
            stopped_by=cast("StoppedBy", stopped_by.decode().removeprefix("-")),
            dropped_bytes=int(dropped),
        )

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            self._read(deadline)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _bytes(self, length: int, deadline: float) -> bytes:
        while len(self._buffer) < length:
            self._read(deadline)
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _read(self, deadline: float) -> None:
        pipe = self._supervisor.replies.fileno()
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(pipe, 1 << 20) if ready else b""
        if not data:
            raise self._died()
        self._buffer += data

    def _died(self) -> InfraError:
        if not self._supervisor.closed:
            self._supervisor.kill()
            self._supervisor.requests.close()  # a sandbox of root's ends by that alone
            self._said = self._supervisor.errors.read()
            self.close()
        return unexpected_end(self.backend.name, self._said)

    def close(self) -> None:
        """End every process inside."""
        self._supervisor.close(_END_SECONDS)

    def __enter__(self) -> StandingSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
