"""`omniperf calibrate`, `tasks certify`, and what `tasks list` and `tasks show` then say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.verify.test_certify import ASKS_LITTLE, ASKS_MUCH, SCRIPT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Omniperf
    from tests.conftest import MakeTask


def test_calibrate_prints_one_line_a_task(
    make_task: MakeTask, omniperf: Omniperf, shared_cache: Path, bubblewrap: None
) -> None:
    task = make_task(workload=SCRIPT)
    done = omniperf("calibrate", str(task.folder), OMNIPERF_CACHE=str(shared_cache))
    assert done.returncode == 0, done.stderr
    head, _, line = done.stdout.splitlines()
    assert head.split() == ["task", "noise", "floor", "SD", "position", "lag", "1", "outliers", "pairs", "time"]
    assert line.split()[0] == "toy"
    assert " 12 " in line


def test_one_task_or_all_of_them(omniperf: Omniperf) -> None:
    done = omniperf("calibrate", "quickstart", "--all")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Give one of the two." in done.stderr


def test_certify_list_and_show(
    make_task: MakeTask, omniperf: Omniperf, shared_cache: Path, tmp_path: Path, bubblewrap: None
) -> None:
    make_task(ASKS_LITTLE, workload=SCRIPT)
    where = {"OMNIPERF_CACHE": str(shared_cache), "OMNIPERF_TASKS": str(tmp_path / "tasks"), "COLUMNS": "120"}
    before = omniperf("tasks", "list", **where).stdout
    assert "certificate" not in before
    done = omniperf("tasks", "certify", "toy", **where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "certified: " in done.stdout
    listed = omniperf("tasks", "list", **where).stdout
    assert "certificate" in listed.splitlines()[0]
    (line,) = [line for line in listed.splitlines() if line.startswith("toy ")]
    assert " here " in line
    (entry,) = [one for one in json.loads(omniperf("tasks", "list", "--json", **where).stdout) if one["name"] == "toy"]
    (certificate,) = entry["certificates"]
    assert (certificate["standing"], certificate["schema"]) == ("here", "omniperf/certificate/v1")
    assert certificate["null"]["class"] == "no_change"
    assert "noise floor" in omniperf("tasks", "show", "toy", **where).stdout
    shown = json.loads(omniperf("tasks", "show", "toy", "--json", **where).stdout)
    assert shown["certificates"] == [certificate]


def test_what_stays_of_a_refused_certificate_is_said(
    make_task: MakeTask, omniperf: Omniperf, shared_cache: Path, bubblewrap: None
) -> None:
    task = make_task(ASKS_MUCH, workload=SCRIPT)
    done = omniperf("tasks", "certify", str(task.folder), OMNIPERF_CACHE=str(shared_cache), COLUMNS="500")
    assert done.returncode == 1
    assert "refused: no certificate was written\n" in done.stdout
    assert f"kept 30 days; measure it again with `omniperf calibrate {task.folder}`." in done.stdout


def test_a_refused_certificate_is_exit_code_1_and_says_why_as_json(
    make_task: MakeTask, omniperf: Omniperf, shared_cache: Path, bubblewrap: None
) -> None:
    task = make_task(workload=SCRIPT)
    file = task.folder / "task.yaml"
    file.write_text(file.read_text().replace("tests.test_order", "tests.nothing"))
    done = omniperf("tasks", "certify", str(task.folder), "--json", OMNIPERF_CACHE=str(shared_cache))
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["certificate"], said["file"]) == (None, None)
    assert said["steps"][-1]["ok"] is False
