"""What all attempts of a run or sweep share, whichever process they are in: the pauses of providers, and the USD.

It is a file in memory without a name, which processes inherit: it ends with the last of them, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shared:
    """A table that one process at a time has, and the account of the USD in it. A new one, without a descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = os.memfd_create("omniperf") if descriptor is None else descriptor
        self._threads = Lock()  # a lock of the file is its whole process's
        self.held = 0.0  # USD that this process has reserved for calls under way

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

    @property
    def usd_left(self) -> float:
        """What all attempts together may still spend; infinite where nobody has said."""
        with self.table() as table:
            return float(table.get("usd", math.inf))

    def pay(self, usd: float) -> None:
        """Count what a call has cost."""
        with self.table() as table:
            if "usd" in table:
                table["usd"] -= usd
