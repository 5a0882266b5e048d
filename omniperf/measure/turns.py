"""Turns: those who wait for lanes get them in the order in which they asked, across processes and users of the host.

Each that waits has a ticket, a file that it holds a lock on. The lock ends with its holder, so the ticket of one that
was killed keeps nobody waiting, and whoever finds it deletes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.results.store import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Ticket:
    """A place in the line. `wanted` are all the locks of all the lanes any of which would do."""

    path: Path
    wanted: frozenset[str]

    def ahead(self) -> list[Ticket]:
        """The tickets of those who asked before and wait for anything that is wanted here too, the last first."""
        before = sorted((one for one in self.path.parent.iterdir() if one.name < self.path.name), reverse=True)
        read = (ticket for one in before if (ticket := _waiting(one)) is not None)
        return [ticket for ticket in read if ticket.wanted & self.wanted]

    def wait(self) -> None:
        """Return when its holder has what it waited for, or is gone."""
        with suppress(OSError):  # it is gone already
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            finally:
                os.close(descriptor)


@contextmanager
def in_line(folder: Path, wanted: frozenset[str]) -> Iterator[Ticket]:
    """Wait in the line whose tickets are in that folder."""
    path, descriptor = _ticket(folder, wanted)
    try:
        yield Ticket(path, wanted)
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _ticket(folder: Path, wanted: frozenset[str]) -> tuple[Path, int]:
    """Make a ticket, and hold it. Raises InfraError (disk)."""
    with disk_errors(folder):
        while True:
            path = folder / f"{time.monotonic_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_nlink:
                    os.fchmod(descriptor, 0o644)
                    os.write(descriptor, json.dumps(sorted(wanted)).encode())
                    return path, descriptor
            except BaseException:
                path.unlink(missing_ok=True)
                os.close(descriptor)
                raise
            os.close(descriptor)  # somebody took it for one whose holder was killed


def _waiting(path: Path) -> Ticket | None:
    """The ticket at that path if its holder lives. One that is just being written is of somebody who comes later."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(ValueError):
            return Ticket(path, frozenset(json.loads(os.read(descriptor, 1 << 16))))
    else:
        with suppress(OSError):  # another user's, or gone
            path.unlink()
    finally:
        os.close(descriptor)
    return None
