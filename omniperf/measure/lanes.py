"""Lanes: the exclusive claim on a set of cores while something is timed, across processes and users of the host."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Beside every user's processes, so not under anyone's home: a lane must exclude the whole host.
_LOCKS = Path(tempfile.gettempdir()) / "omniperf-lanes"


@dataclass(frozen=True)
class Lane:
    """A set of cores."""

    cores: tuple[int, ...]

    @property
    def name(self) -> str:
        """The lane's name, also its lock's."""
        return "cpu-" + "-".join(map(str, self.cores))


def cpu_lanes(cpus: int) -> tuple[Lane, ...]:
    """Disjoint lanes of that many cores each, from the highest core down.

    Core 0 stays free where there is another: it serves most interrupts, and the harness needs a place of its own.
    Raises InfraError (device) on a host with fewer cores.
    """
    cores = sorted(os.sched_getaffinity(0), reverse=True)
    if len(cores) < cpus:
        raise InfraError(
            "device", f"The task needs {cpus} cores, this process may use {len(cores)}.", "Lower `resources.cpus`."
        )
    usable = cores[:-1] if len(cores) > cpus else cores
    return tuple(Lane(tuple(usable[start : start + cpus])) for start in range(0, len(usable) - cpus + 1, cpus))


@contextmanager
def claimed(lanes: tuple[Lane, ...], waiting: Callable[[], None] = lambda: None) -> Iterator[Lane]:
    """Hold one of the lanes, the first that is free; else call `waiting` once and wait for the first."""
    for lane in lanes:
        descriptor = _open(lane)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield lane
        finally:
            os.close(descriptor)
        return
    waiting()
    descriptor = _open(lanes[0])
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield lanes[0]
    finally:
        os.close(descriptor)


def _open(lane: Lane) -> int:
    """Open a lane's lock file, which any user may have made."""
    path = _LOCKS / f"{lane.name}.lock"
    if not _LOCKS.is_dir():
        before = os.umask(0)
        try:
            _LOCKS.mkdir(mode=0o1777, exist_ok=True)
        finally:
            os.umask(before)
    try:  # without O_CREAT first: in a sticky folder the kernel refuses O_CREAT on another user's file
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        before = os.umask(0)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        finally:
            os.umask(before)


class LaneClock:
    """Counts the seconds that a lane was held, and those that were spent waiting for it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waited = 0.0

    @contextmanager
    def hold(self, lanes: tuple[Lane, ...], waiting: Callable[[], None] = lambda: None) -> Iterator[Lane]:
        """`claimed`, counted."""
        asked = time.monotonic()
        with claimed(lanes, waiting) as lane:
            started = time.monotonic()
            self.waited += started - asked
            try:
                yield lane
            finally:
                self.seconds += time.monotonic() - started
