"""Files survive a kill at any moment, and runs are found again."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from example_result import RUN, example_result, write_attempt

from omniperf.errors import InfraError, OmniPerfError, UsageError
from omniperf.results.store import (
    append_line,
    attempt_folders,
    find_attempts,
    find_run,
    load_result,
    new_run_id,
    read_lines,
    write_whole,
)
from omniperf.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(results=tmp_path / "results", worktrees=tmp_path / "worktrees", cache=tmp_path / "cache")


def test_a_file_is_written_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "summary.json"
    write_whole(file, b"first")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second"
    assert [path.name for path in file.parent.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    file = tmp_path / "summary.json"
    write_whole(file, b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "unplugged")

    monkeypatch.setattr(*((os, "fsync", refuse) if fails == "fsync" else (Path, "replace", refuse)))
    with pytest.raises(OSError, match="unplugged"):
        write_whole(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_an_infra_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InfraError, match=r"disk is full.*Make room") as caught:
        write_whole(tmp_path / "x", b"")
    assert caught.value.kind == "disk"


def test_files_get_the_permissions_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    records = [{"text": "two\nlines \u2028 \x1b[0m \udcff"}, {"n": 1.5, "list": [1, None, True]}]
    for record in records:
        append_line(tmp_path / "a" / "x.jsonl", record)
    assert list(read_lines(tmp_path / "a" / "x.jsonl")) == records
    assert (tmp_path / "a" / "x.jsonl").read_bytes().count(b"\n") == 2


def test_numbers_that_json_lacks_become_null_and_nothing_is_lost(tmp_path: Path) -> None:
    append_line(tmp_path / "x.jsonl", {"low": float("nan"), "deep": [{"high": float("inf")}], "kept": 2.0})
    assert list(read_lines(tmp_path / "x.jsonl")) == [{"low": None, "deep": [{"high": None}], "kept": 2.0}]


@pytest.mark.parametrize("torn", [b'{"n": 2, "te', b"\x00" * 9, b'{"n": 2}', b"x" * 200_000])
def test_a_torn_last_line_was_never_written(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "x.jsonl"
    append_line(file, {"n": 1})
    with file.open("ab") as opened:
        opened.write(torn)
    assert list(read_lines(file)) == [{"n": 1}]
    append_line(file, {"n": 3})
    assert list(read_lines(file)) == [{"n": 1}, {"n": 3}]


def test_a_file_of_one_torn_line_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"n":')
    append_line(file, {"n": 1})
    assert file.read_bytes() == b'{"n":1}\n'


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"n":1}\n[2]\n{"n":3}\n')
    with pytest.raises(OmniPerfError, match=r"x\.jsonl:2 is not a JSON record"):
        list(read_lines(tmp_path / "x.jsonl"))


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def _append_many(file: Path, who: int) -> None:
    for number in range(200):
        append_line(file, {"who": who, "n": number, "filler": "x" * (who * 500)})


def test_writers_in_several_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(file, who)) for who in (1, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = list(read_lines(file))
    assert [record["n"] for record in records if record["who"] == 1] == list(range(200))
    assert [record["n"] for record in records if record["who"] == 20] == list(range(200))


def test_run_ids_sort_by_time_in_utc() -> None:
    moment = datetime(2026, 11, 21, 11, 45, tzinfo=timezone(timedelta(hours=1)))
    assert new_run_id(moment)[:16] == "20261121-104500-"
    assert new_run_id(moment) != new_run_id(moment)
    assert new_run_id() > new_run_id(datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def runs(settings: Settings) -> Settings:
    for run in (RUN, "20261121-104500-3fff", "20261122-090000-0001"):
        (settings.results / run).mkdir(parents=True)
    (settings.results / "notes").mkdir()
    return settings


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("latest", "20261122-090000-0001"),
        ("20261122", "20261122-090000-0001"),
        (RUN, RUN),
        ("20261121-104500-3ff", "20261121-104500-3fff"),
    ],
)
def test_a_run_is_found_by_id_prefix_or_as_the_latest(runs: Settings, asked: str, found: str) -> None:
    assert find_run(runs, asked).name == found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("20261121", "fits 2 runs: .*Give more"),
        ("2027", "no run.*newest runs are 20261122"),
        ("", "no run"),
        ("notes", "no run"),
    ],
)
def test_a_run_that_is_not_clear_is_an_error(runs: Settings, asked: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_run(runs, asked)


def test_no_run_at_all_says_how_to_start_one(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"no run under .* yet.*omniperf run TASK"):
        find_run(settings, "latest")


def test_attempts_are_found_by_run_task_label_and_path(settings: Settings) -> None:
    first = write_attempt(settings.results, example_result())
    identity = example_result().identity
    other = {"run_id": "20261122-090000-0001", "label": "null"}
    second = write_attempt(settings.results, example_result(identity=identity.model_copy(update=other)))
    third = write_attempt(
        settings.results, example_result(identity=identity.model_copy(update={**other, "task_id": "sorting"}))
    )
    (third / "logs").mkdir()
    assert find_attempts(settings, RUN) == [first]
    assert find_attempts(settings, "latest") == [second, third]
    assert find_attempts(settings, "quickstart") == [second]
    assert find_attempts(settings, f"{RUN}/quickstart") == [first]
    assert find_attempts(settings, "latest/sorting/null.1") == [third]
    for path in (first, first / "result.json", first.parent.parent):
        assert find_attempts(settings, str(path)) == [first]
    assert attempt_folders(settings.results / RUN) == [first]
    with pytest.raises(UsageError, match="has no result of nothing"):
        find_attempts(settings, "latest/nothing")


def test_a_result_comes_back_as_it_was_written(settings: Settings) -> None:
    folder = write_attempt(settings.results, example_result())
    assert load_result(folder) == load_result(folder / "result.json") == example_result()


@pytest.mark.parametrize("change", [{"schema": "omniperf/result/v9"}, {"extra": 1}, {"outcome": None}])
def test_a_result_of_another_version_is_refused(settings: Settings, change: dict[str, object]) -> None:
    file = write_attempt(settings.results, example_result()) / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(OmniPerfError, match=f"not a valid omniperf/result/v1: {next(iter(change))}"):
        load_result(file)
