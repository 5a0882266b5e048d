"""Comparing a candidate's outputs with base's, in a process that never saw the candidate's code."""

from __future__ import annotations

import json
import select
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.sandbox.spec import confined, environment, with_script

if TYPE_CHECKING:
    from types import TracebackType

    from omniperf.measure.clock import Arm
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Task

_CHECKER = Path(__file__).with_name("checker.py")
_SECONDS = 120.0


class Comparer:
    """Compares batches of outputs. A context manager; its process starts only when bytes differ.

    Equal bytes are equal outputs. Others are decoded and compared in a clean process with base's tree: after the
    workload's own `export`, by its own `check` where it has one, else by type, shape, dtype and a tolerance for
    floating point.
    """

    def __init__(
        self, backend: Backend, base: Arm, task: Task, kind: str, *, own_check: bool, own_export: bool
    ) -> None:
        self._backend, self._base, self._task, self._kind = backend, base, task, kind
        self._own_check, self._own_export = own_check, own_export
        self._process: subprocess.Popen[bytes] | None = None

    def difference(self, candidate: bytes, reference: bytes, seeds: int) -> str:
        """How the candidate's outputs differ from base's; "" when they agree."""
        if candidate == reference:
            return ""
        if self._kind != "module":
            return _text_difference(candidate, reference)
        return self._ask(seeds, candidate, reference)

    def precision_loss(self, candidate: bytes, reference: bytes, exact: bytes, seeds: int) -> str:
        """Where the candidate's outputs are further from the exact ones than base's may be; "" where nowhere."""
        return self._ask(seeds, candidate, reference, exact)

    def _ask(self, seeds: int, *outputs: bytes) -> str:
        process = self._started()
        header = {"lengths": [len(output) for output in outputs], "seeds": seeds}
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(header).encode() + b"\n" + b"".join(outputs))
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], _SECONDS)
            line = process.stdout.readline() if ready else b""
        except OSError:
            line = b""
        if not line:  # it reads base's outputs every day: what ended or stalled it are the candidate's
            self.close()
            return f"they could not be compared within {_SECONDS:.0f} s"
        reply = json.loads(line)
        return "" if reply["equal"] else str(reply["detail"])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            spec = with_script(self._base.spec, _CHECKER)
            workspace = Path(self._backend.where(spec, "/workspace"))
            config = {
                "workload": self._backend.where(spec, "/omniperf/workload.py"),
                "check": self._own_check,
                "export": self._own_export,
                "pythonpath": [str(workspace / path) for path in self._task.environment.pythonpath],
            }
            self._process = self._backend.start(
                spec,
                confined(self._backend, spec, _CHECKER),
                environment(self._backend, spec),
                stderr=subprocess.DEVNULL,
                bufsize=-1,
                own_init=True,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Comparer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _text_difference(candidate: bytes, reference: bytes) -> str:
    mine, base = candidate.splitlines(), reference.splitlines()
    for number, (left, right) in enumerate(zip(mine, base, strict=False), 1):
        if left != right:
            return f"line {number} of its output is {left[:80]!r}, base's is {right[:80]!r}"
    return f"its output has {len(mine)} lines, base's has {len(base)}"
