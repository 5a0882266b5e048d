"""Numbers as people read them, and patches split into files."""

from __future__ import annotations

import pytest
from example_result import PATCH
from rich.console import Console

from omniperf.report.diff import coloured, split, stat
from omniperf.report.numbers import count, dollars, duration, percent, quantity, ratio


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0, "$0.00"), (0.00343, "$0.0034"), (0.0516, "$0.052"), (0.25, "$0.25"), (12.346, "$12.35")],
)
def test_what_was_paid_is_never_shown_as_nothing(usd: float, shown: str) -> None:
    assert dollars(usd) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (12.345678, "s", "12.35 s"),
        (0.00234, "s", "2.340 ms"),
        (0.0000456, "s", "45.60 µs"),
        (3e-9, "s", "3.000 ns"),
        (123456.7, "MiB", "123457 MiB"),
        (41.5, "MiB", "41.50 MiB"),
        (0.5, "MiB", "0.5000 MiB"),
        (0, "MiB", "0 MiB"),
        (999.96, "MiB", "1000.0 MiB"),
    ],
)
def test_quantities(value: float, unit: str, shown: str) -> None:
    assert quantity(value, unit) == shown


def test_other_numbers() -> None:
    assert [ratio(1.0416), ratio(12.34), ratio(0.5)] == ["1.042x", "12.3x", "0.500x"]
    assert [percent(0.012), percent(0.00034), percent(0.25)] == ["1.2 %", "0.034 %", "25 %"]
    assert [duration(0.84), duration(42.3), duration(200), duration(7500)] == [
        "0.8 s",
        "42 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert [count(1, "file"), count(2, "file"), count(1200, "entry", "entries")] == [
        "1 file",
        "2 files",
        "1,200 entries",
    ]


def test_a_patch_is_split_by_its_counts_not_by_what_lines_look_like() -> None:
    code, renamed, logo = split(PATCH)
    assert [file.path for file in (code, renamed, logo)] == ["lib/count.py", "docs/new name.txt", "logo.png"]
    assert (code.added, code.removed, code.binary) == (3, 3, False)
    assert "--- not a header, a removed line" in code.hunks[0]
    assert (renamed.added, renamed.hunks, logo.binary) == (0, [], True)


def test_a_hunk_may_hold_a_whole_patch_and_lack_its_last_newline() -> None:
    patch = (
        b'diff --git "a/t\\303\\244st b.diff" "b/t\\303\\244st b.diff"\nnew file mode 100644\n--- /dev/null\n'
        b'+++ "b/t\\303\\244st b.diff"\n@@ -0,0 +1,3 @@\n+diff --git a/x b/x\n+--- a/x\n+@@ -1 +1 @@\n'
        b"\\ No newline at end of file\n"
        b"diff --git a/old b/old\ndeleted file mode 100644\n--- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        b"diff --git a/empty b/empty\nnew file mode 100644\n"
    )
    new, old, empty = split(patch)
    assert (new.added, new.removed, old.added, old.removed) == (3, 0, 0, 1)
    assert [old.path, empty.path] == ["old", "empty"]
    assert "st b.diff" in new.path
    assert new.hunks[0][-1] == "\\ No newline at end of file"


def test_an_empty_patch_and_a_strange_one_are_shown_all_the_same() -> None:
    console = Console(width=80, file=None, record=True)
    with console.capture():
        for patch in (
            b"",
            b"not a patch\n",
            b"diff --git nothing\n@@ broken\n",
            b"diff --git a/x b/x\n@@ -1,9 +1,9 @@\n",
        ):
            console.print(coloured(patch), stat(patch))
