"""The journal: what happened is on disk before anything else happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from omniperf.results.journal import Journal
from omniperf.results.predictions import prediction
from omniperf.results.store import read_lines

if TYPE_CHECKING:
    from pathlib import Path


def test_records_have_a_time_and_a_kind_and_are_there_at_once(tmp_path: Path) -> None:
    file = tmp_path / "new" / "journal.jsonl"
    with Journal(file) as journal:
        journal.write("start", task="quickstart")
        (record,) = read_lines(file)
    assert record["kind"] == "start"
    assert record["task"] == "quickstart"
    assert datetime.fromisoformat(record["t"]).utcoffset() is not None


def test_a_journal_is_continued_after_a_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal(file) as journal:
        journal.write("one")
    with file.open("a") as opened:
        opened.write('{"t":"20')
    with Journal(file) as journal:
        journal.write("two")
    assert [record["kind"] for record in read_lines(file)] == ["one", "two"]


def test_a_killed_writer_loses_no_record(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    script = f"""
import os, signal
from pathlib import Path
from omniperf.results.journal import Journal
journal = Journal(Path({str(file)!r}))
for number in range(50):
    journal.write("step", n=number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert [record["n"] for record in read_lines(file)] == list(range(50))


def test_a_closed_journal_refuses_to_write(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.write("late")


def test_a_journal_does_not_leak_into_programs_that_are_started(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert not os.get_inheritable(journal._descriptor)


def test_a_prediction_is_text_even_where_the_patch_is_not() -> None:
    assert prediction("quickstart", "pattern", "+é\n".encode() + b"\xff\n") == {
        "instance_id": "quickstart",
        "model_name_or_path": "pattern",
        "model_patch": "+é\n\ufffd\n",
    }
