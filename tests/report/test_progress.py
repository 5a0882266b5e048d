"""Progress: one changing line on a terminal, plain timed lines in a pipe."""

from __future__ import annotations

import io
import re
import threading

import pytest

from omniperf.report.progress import progress
from omniperf.results.events import Event

EVENTS = [
    Event("workspace", "making a sealed workspace"),
    Event("agent", "bash", {"step": 3}),
    Event("verify", "measuring", {"pairs": 4, "max_pairs": 24, "transient": True}),
    Event("verify", "measuring", {"pairs": 6, "speedup": 1.5, "low": 1.4, "high": 1.6, "transient": True}),
    Event("verify", "improved: \x1b[2Jthe lower\nbound [bold]holds[/]"),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal, of 40 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def lines_on_screen(output: str) -> list[str]:
    """What is left to see after every carriage return and colour."""
    shown = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return [line.rpartition("\r\x1b[2K")[2] for line in shown.split("\n")]


def test_a_pipe_gets_plain_timed_lines_without_counters() -> None:
    stream = io.StringIO()
    with progress(stream) as emit:
        for event in EVENTS:
            emit(event)
    lines = stream.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[9:] for line in lines] == [
        "workspace  making a sealed workspace",
        "agent      bash · step 3",
        "verify     improved: the lower bound [bold]holds[/]",
    ]


def test_a_terminal_keeps_one_line_a_phase(terminal: Terminal) -> None:
    with progress(terminal) as emit:
        for event in EVENTS:
            emit(event)
    *lines, last = lines_on_screen(terminal.getvalue())
    assert last == ""
    assert [re.sub(r"  \d+\.\d s$", "", line) for line in lines] == [
        "· workspace  making a sealed wor…",
        "· agent      bash · step 3",
        "· verify     improved: the lower…",
    ]
    assert "measuring · 6 pairs…" in terminal.getvalue()


def test_no_line_is_wider_than_the_terminal(terminal: Terminal) -> None:
    with progress(terminal) as emit:
        for text in ("x" * 200, "日本" * 50, "é" * 39):
            emit(Event("agent", text))
            line = lines_on_screen(terminal.getvalue())[-1]
            assert sum(2 if character in "日本" else 1 for character in line) <= 40


def test_attempts_are_told_apart(terminal: Terminal) -> None:
    with progress(terminal) as emit:
        for attempt in ("a/b.1", "a/b.2"):
            emit(Event("agent", "bash", {"attempt": attempt}))
    assert [line.split()[2] for line in lines_on_screen(terminal.getvalue())[:2]] == ["a/b.1:", "a/b.2:"]


def test_no_colour_where_it_is_not_wanted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with progress(terminal) as emit:
        emit(EVENTS[0])
    assert "\x1b[36m" not in terminal.getvalue()


def test_a_dumb_terminal_gets_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with progress(terminal) as emit:
        emit(EVENTS[0])
    assert "\x1b" not in terminal.getvalue()


def test_no_thread_runs_beside_the_clock(terminal: Terminal) -> None:
    before = set(threading.enumerate())  # of other tests' servers
    with progress(terminal) as emit:
        emit(EVENTS[0])
        assert set(threading.enumerate()) <= before


def test_the_line_is_ended_when_the_work_fails(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt), progress(terminal) as emit:
        emit(EVENTS[0])
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith("\n")
