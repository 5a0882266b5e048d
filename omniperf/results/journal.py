"""The journal of an attempt: what happened, in order, on disk before anything else happens. Resume reads it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from omniperf.results.store import append_record, disk_errors, open_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


class Journal:
    """An append-only `.jsonl` file, open for an attempt's lifetime. Each record is one write of one line."""

    def __init__(self, path: Path) -> None:
        """Open or continue the journal at that path; makes the folders above it. Raises InfraError (disk)."""
        self.path = path
        self.heard: Callable[[str], None] | None = None  # is told the kind of each record, once it is written
        with disk_errors(path):
            self._descriptor = open_lines(path)

    def write(self, kind: str, **fields: object) -> None:
        """Append `{"t": UTC time, "kind": kind, **fields}`; the fields are plain data. Raises InfraError (disk)."""
        if self._descriptor < 0:
            raise ValueError(f"the journal {self.path} is closed")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with disk_errors(self.path):
            append_record(self._descriptor, {"t": now, "kind": kind, **fields})
        if self.heard is not None:
            self.heard(kind)

    def close(self) -> None:
        """Force what was written to disk, and close. Closing twice is fine."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
