"""Text of others cannot command the terminal, and nothing that is shown is lost without a trace."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniperf.report.escape import one_line, plain, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[?25l\x1b[2J\x1b[1;1Hx", "x"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;https://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1bc\x1b(0x", "x"),
        ("\x1b", r"\x1b"),
        ("a\x1b[", "a"),
        ("100%\rdone", r"100%\x0ddone"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("back\x08space\x00\x7f", r"back\x08space\x00\x7f"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("byte \udcff, half \ud83d", r"byte \xff, half \ud83d"),
        ("[bold]é 日本 🙂", "[bold]é 日本 🙂"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_patch_shows_what_is_in_it() -> None:
    assert visible("+x = '\x1b[31m'\r\n") == "+x = '\\x1b[31m'\\x0d\n"


def test_one_line_is_one_line() -> None:
    assert one_line("  a\n\n b\t\u2028c\r\nd ") == r"a b \u2028c d"


@given(st.text(alphabet=st.characters() | st.sampled_from("\x1b\x9b[]P;m\x07\\\r\n0")))
def test_nothing_unsafe_is_ever_left(text: str) -> None:
    for shown in (plain(text), visible(text)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
        shown.encode()


@pytest.mark.parametrize("begun", ["\x90", "\x9d", "\x1b]", "\x9b0;", "\x1b ", "\x1b[0"])
def test_sequences_that_only_begin_take_no_longer_than_they_are(begun: str) -> None:
    started = time.process_time()
    assert "\x1b" not in plain(begun * (500_000 // len(begun)))
    assert time.process_time() - started < 20
