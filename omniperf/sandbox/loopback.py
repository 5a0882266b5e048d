"""A network that several sandboxes share: loopback, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.results.redact import keyless

if TYPE_CHECKING:
    from types import TracebackType

_NETWORK = Path(__file__).with_name("network.py")


class Loopback:
    """The network. A context manager; a spec whose `joins` are its `namespaces` is of a sandbox in it.

    The process that makes it ends at once: the descriptors here keep it, and after them the sandboxes in it.
    """

    def __init__(self) -> None:
        self.namespaces: tuple[int, ...] = ()
        script = (sys.executable, "-I", "-S", str(_NETWORK), "make")
        pipe = subprocess.PIPE
        with subprocess.Popen(script, stdin=pipe, stdout=pipe, stderr=pipe, env=keyless()) as maker:
            assert maker.stdin is not None
            assert maker.stdout is not None
            assert maker.stderr is not None
            if maker.stdout.read(1):
                kinds = ("net",) if os.getuid() == 0 else ("user", "net")
                self.namespaces = tuple(os.open(f"/proc/{maker.pid}/ns/{kind}", os.O_RDONLY) for kind in kinds)
            maker.stdin.close()
            said = maker.stderr.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        if not self.namespaces:
            message = f"A network for two sandboxes could not be made ({said[-1]})."
            raise InfraError("spawn", message, "Run `omniperf doctor`.")

    def close(self) -> None:
        """Let go of it."""
        for descriptor in self.namespaces:
            os.close(descriptor)
        self.namespaces = ()

    def __enter__(self) -> Loopback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def joining(namespaces: tuple[int, ...], program: str, group: Path | None = None) -> list[str]:
    """The start of a command line that joins namespaces and a control group and becomes the program (absolute)."""
    joined = ",".join(map(str, namespaces))
    return [sys.executable, "-I", "-S", str(_NETWORK), "join", joined, str(group or ""), program]
