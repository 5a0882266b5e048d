"""Results and predictions of others: one sentence, the exit status of a failure, and nothing is lost or followed."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import OmniPerfError
from omniperf.results.store import read_lines, read_plain
from tests.example_result import PATCH, example_result, write_attempt

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Omniperf = Callable[..., subprocess.CompletedProcess[str]]

DEEP = "[" * 100_000
RESULT = example_result().model_dump_json(by_alias=True)


def linked(file: Path) -> None:
    file.symlink_to("/etc/passwd")


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def holding(text: str | bytes) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


def vast(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(300 * 2**20)


RESULTS = {
    "nested deeply": (holding(RESULT.replace('"gpus":[]', f'"gpus":{DEEP}')), "is not a valid omniperf/result/v1"),
    "another version": (holding(RESULT.replace("result/v1", "result/v9")), "is not a valid omniperf/result/v1"),
    "a key too many": (holding(RESULT.replace("{", '{"__class__": "os.system", ', 1)), "__class__"),
    "a verdict of its own": (holding(RESULT.replace('"improved"', '"superb"')), "verdict.class"),
    "no text": (holding(b"\xff\xfe\0"), "is not a valid omniperf/result/v1"),
    "empty": (holding(""), "is not a valid omniperf/result/v1"),
    "a link": (linked, "is a link or no file"),
    "a link to what never ends": (endless, "is a link or no file"),
    "vast": (vast, "bytes, more than"),
}


@pytest.mark.parametrize("what", RESULTS)
def test_a_result_that_is_none_is_refused(omniperf: Omniperf, folder: Path, what: str) -> None:
    spoil, said = RESULTS[what]
    file = write_attempt(folder / "results", example_result()) / "result.json"
    file.unlink()
    spoil(file)
    before = sorted(folder.rglob("*"))
    for command in (("show",), ("diff",), ("verify", "latest")):
        done = omniperf(*command)
        assert done.returncode == 1, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert "root:" not in done.stderr + done.stdout
        assert len(done.stderr.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("plant", [linked, endless, os.mkfifo, vast, lambda file: file.mkdir()])
def test_a_patch_that_is_no_file_is_not_followed(
    omniperf: Omniperf, folder: Path, plant: Callable[[Path], None]
) -> None:
    file = write_attempt(folder / "results", example_result()) / "model_patch.diff"
    file.unlink()
    plant(file)
    done = omniperf("diff", "--raw")
    assert (done.returncode, done.stdout) == (1, "")
    assert "model_patch.diff" in done.stderr
    assert "Traceback" not in done.stderr


PREDICTION = {"instance_id": "quickstart", "model_name_or_path": "m", "model_patch": ""}
LINES = {
    "nested deeply": DEEP,
    "no object": "[1]",
    "a number as patch": json.dumps({**PREDICTION, "model_patch": 1}),
    "not JSON": "{",
}


@pytest.mark.parametrize("what", LINES)
def test_a_bad_line_of_predictions_takes_only_itself_away(omniperf: Omniperf, folder: Path, what: str) -> None:
    (folder / "p.jsonl").write_text(f"{LINES[what]}\n{json.dumps({**PREDICTION, 'instance_id': '../../etc/passwd'})}\n")
    done = omniperf("verify", "--predictions", "p.jsonl")
    assert done.returncode == 1
    assert "error: p.jsonl:1: not a JSON object with the texts" in done.stderr
    assert "error: p.jsonl:2: there is no task '../../etc/passwd' here." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_journal_line_of_others_is_named_and_no_crash(tmp_path: Path) -> None:
    for line in (DEEP, "9" * 5000, "[]", '"x"'):
        (tmp_path / "journal.jsonl").write_text(f'{{"a": 1}}\n{line}\n')
        records = read_lines(tmp_path / "journal.jsonl")
        assert next(records) == {"a": 1}
        with pytest.raises(OmniPerfError, match=r"journal\.jsonl:2 is not a JSON record"):
            next(records)


def test_a_plain_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(PATCH)
    assert read_plain(tmp_path / "f", len(PATCH)) == PATCH
    with pytest.raises(OmniPerfError, match="more than"):
        read_plain(tmp_path / "f", len(PATCH) - 1)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "absent")


# What runs in the sandbox, on the task's Python: there, code of others is what is run. And what makes it ready, which
# hears the harness alone.
INSIDE = {"worker.py", "forker.py", "one_run.py", "confined.py", "supervisor.py", "enter.py"}
MAKES_OBJECTS = {
    "eval", "exec", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "shelve.open",
    "yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen", "shutil.unpack_archive",
}  # fmt: skip


def test_the_harness_makes_no_objects_of_bytes_and_starts_no_shell() -> None:
    root = Path(__file__).parents[2] / "omniperf"
    for file in (file for file in root.rglob("*.py") if file.name not in INSIDE):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name, where = ast.unparse(node.func), f"{file}:{node.lineno}"
                assert name not in MAKES_OBJECTS, where
                assert not name.endswith((".extractall", ".unpack_archive")), where
                assert not any(word.arg == "shell" for word in node.keywords), where
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "shelve", "dill", "cloudpickle"}, f"{file}:{node.lineno}"
