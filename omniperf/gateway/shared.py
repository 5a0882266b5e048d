"""What all attempts of a run or sweep share, whichever process they are in: the pauses of providers, and the USD.

It is a file in memory without a name, which processes inherit: it ends with the last of them, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDING = 1e-9
"""USD that sums leave which were added and taken away again, far below the smallest price."""


class Shared:
    """A table that one process at a time has, and the account of the USD in it. A new one, without a descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = os.memfd_create("omniperf") if descriptor is None else descriptor
        self._threads = Lock()  # a lock of the file is its whole process's

    def fileno(self) -> int:
        """The descriptor, for a process that is to have it too."""
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    @contextmanager
    def table(self) -> Iterator[dict[str, Any]]:
        """The table, which the block may change."""
        with self._threads:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                size = os.fstat(self._descriptor).st_size
                before = os.pread(self._descriptor, size, 0).partition(b"\n")[0]
                table = json.loads(before or b"{}")
                yield table
                after = json.dumps(table).encode()
                if after != before:
                    os.pwrite(self._descriptor, after + b"\n", 0)  # what follows the line is an older table's
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def allow(self, usd: float) -> None:
        """Let all attempts together spend so much from now on."""
        with self.table() as table:
            table["usd"] = usd

    def pay(self, usd: float) -> None:
        """Count what a call has cost."""
        with self.table() as table:
            if "usd" in table:
                table["usd"] -= usd

    def hold(self, usd: float, *, fits: bool = False) -> bool:
        """Reserve USD for a call of this process; below 0 they are given back.

        With `fits` nothing is held, and the answer is False, where what all processes hold would be more than is left.
        What is held by a process that has ended is nobody's.
        """
        with self.table() as table:
            held, left = table.setdefault("held", {}), float(table.get("usd", math.inf)) + ROUNDING
            if fits and sum(held.values()) + usd > left:  # only now: with many processes it takes a while
                held = table["held"] = {process: each for process, each in held.items() if _lives(process)}
                if sum(held.values()) + usd > left:
                    return False
            own = _own(os.getpid())
            if (mine := held.pop(own, 0.0) + usd) > ROUNDING:
                held[own] = mine
        return True


@lru_cache(1)
def _own(pid: int) -> str:
    return _process(pid)


def _process(pid: int) -> str:
    """A process by its number and when it started, for numbers are given again; "" where it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{pid} {fields[18]}"  # proc(5): field 22, of which the state is the third


def _lives(process: str) -> bool:
    return _process(int(process.partition(" ")[0])) == process
