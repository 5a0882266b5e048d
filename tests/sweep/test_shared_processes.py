"""Which attempts share a process, and that nothing of one is there for the next."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.sweep import processes
from omniperf.sweep.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT = 30.0
LEFT: list[object] = []  # what an attempt does not let go of


class Attempts:
    """Attempts that write down which process they were in, one after another."""

    def __init__(self, folder: Path, does: Callable[[dict[str, Any]], bool]) -> None:
        self.said: list[dict[str, Any]] = []
        self._folder, self._does, self._made = folder, does, 0
        self.processes = Processes(self._attempt, self.said.append)

    def _attempt(self, item: dict[str, Any]) -> bool:
        (self._folder / item["id"]).write_text(str(os.getpid()))
        return self._does(item)

    def start(self, *, fresh: bool = False) -> str:
        self._made += 1
        name = f"a{self._made}"
        self.processes.start({"id": name, "folder": str(self._folder / f"folder-{name}")}, fresh=fresh)
        return name

    def ended(self, name: str) -> str:
        """How it ended, once it has."""
        deadline = time.monotonic() + WAIT
        while not (found := [said["how"] for said in self.said if said["id"] == name]):
            assert time.monotonic() < deadline
            if select.select([self.processes.fileno()], [], [], 0.02)[0]:
                self.processes.rest()
            self.processes.reap()
        assert len(found) == 1
        return str(found[0])

    def pid(self, name: str) -> int:
        deadline = time.monotonic() + WAIT
        while not (text := (self._folder / name).read_text() if (self._folder / name).is_file() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return int(text)

    def made(self, *, fresh: bool = False) -> int:
        """Make one whole attempt; the process it was in."""
        name = self.start(fresh=fresh)
        assert self.ended(name) == ""
        return self.pid(name)

    def close(self) -> None:
        for pid in list(self.processes._ways):
            os.kill(pid, signal.SIGKILL)
        while self.processes._ways:
            self.processes.reap()


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Callable[[Callable[[dict[str, Any]], bool]], Attempts]]:
    made: list[Attempts] = []

    def make(does: Callable[[dict[str, Any]], bool]) -> Attempts:
        made.append(Attempts(tmp_path, does))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_attempts_that_leave_nothing_share_a_process(attempts: Callable[..., Attempts], tmp_path: Path) -> None:
    here = attempts(lambda _: True)
    first = here.made()
    assert first != os.getpid()
    assert here.made() == first
    assert (tmp_path / "folder-a2" / "logs" / "process.txt").is_file()


def test_what_is_asked_for_a_process_of_its_own_has_one(attempts: Callable[..., Attempts]) -> None:
    here = attempts(lambda _: True)
    assert len({here.made(), here.made(fresh=True)}) == 2


def _thread(_: dict[str, Any]) -> bool:
    threading.Thread(target=time.sleep, args=(WAIT,), daemon=True).start()
    return True


def _file(_: dict[str, Any]) -> bool:
    LEFT.append(os.open(os.devnull, os.O_RDONLY))
    return True


def _child(_: dict[str, Any]) -> bool:
    LEFT.append(subprocess.Popen(("sleep", "0.5"), stdin=subprocess.DEVNULL))
    return True


def _closed(_: dict[str, Any]) -> bool:
    os.close(0)
    return True


def _no(_: dict[str, Any]) -> bool:
    return False


@pytest.mark.parametrize("does", [_thread, _file, _child, _closed, _no])
def test_a_process_in_which_something_is_left_makes_no_other(
    attempts: Callable[..., Attempts], does: Callable[[dict[str, Any]], bool]
) -> None:
    here = attempts(does)
    assert len({here.made(), here.made()}) == 2


def test_a_process_makes_only_so_many(attempts: Callable[..., Attempts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_MOST_ATTEMPTS", 3)
    here = attempts(lambda _: True)
    pids = [here.made() for _ in range(7)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_one_that_is_killed_while_it_rests_is_missed_by_nobody(attempts: Callable[..., Attempts]) -> None:
    here = attempts(lambda _: True)
    first = here.made()
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)  # dead, and nobody has looked yet
    assert here.made() != first


def test_one_that_is_killed_at_its_second_attempt_is_said_to_be(attempts: Callable[..., Attempts]) -> None:
    def slow_second(item: dict[str, Any]) -> bool:
        time.sleep(WAIT if item["id"] == "a2" else 0)
        return True

    here = attempts(slow_second)
    first = here.made()
    name = here.start()
    assert here.pid(name) == first
    os.kill(first, signal.SIGKILL)
    assert here.ended(name) == "signal SIGKILL"
    assert here.made() != first


def test_an_error_of_the_harness_ends_the_process(attempts: Callable[..., Attempts]) -> None:
    def fails(item: dict[str, Any]) -> bool:
        if item["id"] == "a2":
            raise ValueError("of the second")
        return True

    here = attempts(fails)
    first = here.made()
    name = here.start()
    assert here.ended(name) == "exit code 1"
    assert here.made() != first
