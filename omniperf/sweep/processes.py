"""The processes of attempts: forked from the launcher, which is one thread and has everything imported and ready.

A fork pays for each page that it touches: a quarter of what a short attempt costs. So a process may make one attempt
after another, where their agents are such that keep nothing (`forgets`), and as long as what can be seen of an attempt
is gone when it has ended: its threads, its children, its open files. Anything else ends with the attempt.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.errors import OmniPerfError
from omniperf.results.redact import clean

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_WORD = 8  # bytes of a process's number
_MOST_ATTEMPTS = 25  # of one process: what no look can see, such as memory that is not given back, ends with it


class Processes:
    """Those that run, and those that rest: they wait for another attempt.

    `attempt` makes one, from plain data with an `id` and a `folder`, and returns whether its process may go on; `say`
    tells the engine.
    """

    def __init__(self, attempt: Callable[[dict[str, Any]], bool], say: Callable[[dict[str, Any]], None]) -> None:
        self._attempt, self._say = attempt, say
        self._running: dict[int, str] = {}
        self._resting: list[int] = []
        self._ways: dict[int, int] = {}  # to each process: what is written there is its next attempt
        self._rested, self._rest = os.pipe()

    def fileno(self) -> int:
        """Where they say that they rest, for `select`."""
        return self._rested

    def start(self, item: dict[str, Any], *, fresh: bool) -> None:
        """Start an attempt: in a new process where that is asked for or none rests."""
        while self._resting and not fresh:
            pid = self._resting.pop()
            with suppress(BrokenPipeError):  # it was killed
                os.write(self._ways[pid], json.dumps(item).encode() + b"\n")
                self._running[pid] = item["id"]
                return
        self._fork(item)

    def rest(self) -> None:
        """Take note of those that have ended an attempt and wait for another."""
        said = os.read(self._rested, _WORD << 9)
        for at in range(0, len(said), _WORD):  # whole words: so short a write is never split
            pid = int.from_bytes(said[at : at + _WORD], "big")
            if pid in self._running:  # else it was killed, and that has been told
                self._resting.append(pid)
                self._say({"id": self._running.pop(pid), "how": ""})

    def reap(self) -> None:
        """Take note of those that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            how = "" if code == 0 else f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            if pid in self._resting:
                self._resting.remove(pid)
            if pid in self._ways:
                os.close(self._ways.pop(pid))
            if pid in self._running:
                self._say({"id": self._running.pop(pid), "how": how})

    def end(self) -> None:
        """Wait for all of them, who have been told to end: what they have used counts as this process's then."""
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _fork(self, item: dict[str, Any]) -> None:
        launcher = os.getpid()
        inbox, way = os.pipe()
        pid = os.fork()
        if pid:
            os.close(inbox)
            self._running[pid], self._ways[pid] = item["id"], way
            return
        code = 1
        try:
            for other in (way, *self._ways.values(), self._rested):
                os.close(other)
            _become_an_attempt(launcher)
            with os.fdopen(inbox, "rb") as lines:
                self._attempts(item, lines.readline)
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException as error:
            if isinstance(error, OmniPerfError):
                self._say({"id": item["id"], "phase": "report", "message": str(error), "data": {}})
            with suppress(OSError):  # the disk may be full
                print(clean(traceback.format_exc()), file=sys.stderr, flush=True)  # noqa: T201
        finally:
            os._exit(code)

    def _attempts(self, item: dict[str, Any], next_line: Callable[[], bytes]) -> None:
        """Make that attempt, and those that come, as long as this process may."""
        for more in reversed(range(_MOST_ATTEMPTS)):
            _print_into(Path(item["folder"]))
            before = _open_files()
            if not self._attempt(item) or _left(before) or not more:
                return
            os.write(self._rest, os.getpid().to_bytes(_WORD, "big"))
            if not (line := next_line()):
                return
            item.clear()  # what a traceback is about
            item.update(json.loads(line))


def _open_files() -> set[str]:
    with os.scandir("/proc/self/fd") as entries:
        return {entry.name for entry in entries}


def _left(before: set[str]) -> bool:
    """Whether a thread, a child or an open file of an attempt is left in this process."""
    with suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return threading.active_count() > 1 or _open_files() != before


def _become_an_attempt(launcher: int) -> None:
    """Die with the launcher, and take nothing from its input."""
    die_with(launcher)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _print_into(folder: Path) -> None:
    """Keep what Python itself might print."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "logs" / "process.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def die_with(parent: int) -> None:
    """End when that process does, which is this one's parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before that held
        os._exit(1)
