"""`show` and `diff` on attempts as they lie on disk."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from example_result import PATCH, RUN, estimate, example_result, write_attempt

from omniperf.results.schema import Finding, Outcome, PromptCheck, PromptPart, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Omniperf = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def attempt(folder: Path) -> Path:
    return write_attempt(folder / "results", example_result())


def test_one_attempt_in_full(omniperf: Omniperf, attempt: Path) -> None:
    shown = omniperf("show").stdout
    assert shown.startswith("improved  1.840x as fast  quickstart · pattern.1\n")
    for fact in (
        "the lower bound 1.75 is above 1 + margin",
        "1.840x (95 %: 1.785 to 1.895)",
        "12 pairs, noise 1.2 % a pair, could have detected 0.9 %",
        "tests pass · outputs equal (24 compared, 6 seeds) · 3 fresh states, 1 other",
        "OUT OF SCOPE: docs/new name.txt",
        "2.340 ms",
        "1.271 ms",
        "held, at most 1.05x",
        "dead-cache: a cache that is never read",
        "lib/count.py:12: _cache = {}",
        "Example CPU 9000, 2 cores · Python 3.11.7",
        "14 steps · 31 s",
        f"results/{RUN}/quickstart/pattern.1",
    ):
        assert fact in shown, fact


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
def test_names_of_tasks_are_whole_on_any_terminal(omniperf: Omniperf, folder: Path, columns: int) -> None:
    task = "networkx-bidirectional-path"
    for n in (1, 2):
        result = example_result()
        identity = result.identity.model_copy(update={"task_id": task, "n": n})
        write_attempt(folder / "results", result.model_copy(update={"identity": identity}))
    shown = omniperf("show", COLUMNS=str(columns)).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert sum(task in line for line in lines) == 2
    assert " ".join(lines).count("1.785 to 1.895") == 2
    assert "2 attempts: 2 improved" in shown
    listed = omniperf("tasks", "list", COLUMNS=str(columns)).stdout
    assert any(line.split()[:1] == ["networkx-is-reachable"] for line in listed.splitlines())
    assert max(map(len, (*shown.splitlines(), *listed.splitlines()))) <= columns


@pytest.mark.parametrize("name", ["no_change", "regressed", "inconclusive", "incorrect", "rejected", "invalid"])
def test_only_an_improvement_is_called_one(omniperf: Omniperf, folder: Path, name: str) -> None:
    verdict = Verdict.model_validate({"class": name, "reason": "because", "speedup": estimate(1.5)})
    write_attempt(folder / "results", example_result(verdict=verdict))
    assert omniperf("show").stdout.startswith(f"{name}  quickstart · pattern.1\n")


def test_what_was_not_checked_is_not_called_clean(omniperf: Omniperf, folder: Path) -> None:
    write_attempt(folder / "results", example_result(verdict=Verdict(), patch=None), b"")
    assert "tests not checked · outputs not checked" in omniperf("show").stdout


def test_a_prompt_that_leaked_is_said_beside_the_verdict(omniperf: Omniperf, folder: Path) -> None:
    part = PromptPart(name="commit message", status="leaks", evidence=("line 3: it",))
    check = PromptCheck(status="leaks", parts=(part, PromptPart(name="commit sha", status="not checked")))
    write_attempt(folder / "results", example_result(prompt_check=check, allow_leak=True))
    shown = " ".join(omniperf("show").stdout.split())
    assert "prompt optimize@2, LEAKS THE SOLUTION (commit message), allowed by --allow-leak" in shown


def test_an_error_of_the_host_is_told_with_its_proof(omniperf: Omniperf, folder: Path) -> None:
    outcome = Outcome(
        kind="infra_error",
        infra_kind="disk",
        phase="collect",
        exit_code=28,
        detail="git failed",
        evidence="No space left",
    )
    write_attempt(folder / "results", example_result(outcome=outcome, verdict=Verdict(), patch=None), b"")
    shown = omniperf("show").stdout
    assert "infra_error (disk) in collect, exit code 28: git failed" in shown
    assert "No space left" in shown


def test_many_attempts_are_a_table_with_totals(omniperf: Omniperf, folder: Path, attempt: Path) -> None:
    identity = example_result().identity.model_copy(update={"label": "null"})
    write_attempt(folder / "results", example_result(identity=identity, verdict=Verdict(), patch=None), b"")
    shown = omniperf("show", "latest").stdout
    assert f"2 attempts: 1 unverified, 1 improved · run {RUN}" in shown
    for line in shown.splitlines():
        assert len(line) <= 100
    assert len(json.loads(omniperf("show", "--json").stdout)["attempts"]) == 2


def test_json_is_the_result_itself(omniperf: Omniperf, attempt: Path) -> None:
    shown = json.loads(omniperf("show", "quickstart", "--json").stdout)
    assert shown == {"attempts": [json.loads((attempt / "result.json").read_text())]}


def test_results_are_found_where_the_flag_says(omniperf: Omniperf, folder: Path, attempt: Path) -> None:
    (folder / "results").rename(folder / "elsewhere")
    assert omniperf("show").returncode == 2
    assert omniperf("show", "--results", "elsewhere").returncode == 0


def test_an_agents_text_can_command_neither_terminal_nor_rich(omniperf: Omniperf, folder: Path) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m[bold red]loud[/] \u202egnp.exe\r\x08"
    finding = Finding(id=hostile, severity="warn", message=hostile, evidence=hostile, remedy=hostile)
    verdict = Verdict(reason=hostile, findings=(finding,), printed={hostile: 1.0})
    outcome = Outcome(kind="agent_error", detail=hostile, evidence=hostile, signal=hostile)
    patch = PATCH.replace(b"found = set()", b"found = '\x1b[2J\xe2\x80\xae\xff[bold]'")
    write_attempt(folder / "results", example_result(verdict=verdict, outcome=outcome), patch)
    for arguments in (["show"], ["diff"], ["diff", "--stat"]):
        shown = omniperf(*arguments).stdout
        assert not {"\x1b", "\x9b", "\x07", "\x08", "\r", "\u202e"} & set(shown)
    assert "[bold red]loud[/]" in omniperf("show").stdout
    assert "owned" not in omniperf("show").stdout
    assert r"+    found = '\x1b[2J\u202e\xff[bold]'" in omniperf("diff").stdout


def test_diff_is_the_patch_as_text(omniperf: Omniperf, attempt: Path) -> None:
    assert omniperf("diff").stdout == PATCH.decode().replace("\n\n", "\n").removesuffix("\n") + "\n"


def test_raw_is_the_patch_to_the_byte(omniperf: Omniperf, folder: Path) -> None:
    patch = PATCH + b"\x1b[2J\xff\r\n"
    write_attempt(folder / "results", example_result(), patch)
    assert omniperf("diff", "--raw").stdout.encode("utf-8", "surrogateescape") == patch.replace(b"\r\n", b"\n")
    assert json.loads(omniperf("diff", "--json").stdout)["patch"] == patch.decode("utf-8", "surrogateescape")


def test_stat_counts_lines_and_marks_what_is_out_of_scope(omniperf: Omniperf, attempt: Path) -> None:
    lines = [line.split() for line in omniperf("diff", "--stat").stdout.splitlines()]
    assert lines == [
        ["lib/count.py", "+3", "-3", "+++---"],
        ["docs/new", "name.txt", "+0", "-0", "out", "of", "scope"],
        ["logo.png", "binary"],
        ["3", "files,", "+3", "-3", "lines"],
    ]


def test_diff_stands_beside_the_human_patch(omniperf: Omniperf, folder: Path, attempt: Path) -> None:
    task = folder / "tasks" / "quickstart"
    (task / "library" / "lib").mkdir(parents=True)
    (task / "library" / "lib" / "count.py").write_text("def words(text):\n    return 1\n")
    (task / "workload.py").write_text("")
    human = "--- a/lib/count.py\n+++ b/lib/count.py\n@@ -1,2 +1,2 @@\n def words(text):\n-    return 1\n+    return 2\n"
    (task / "human.diff").write_text("diff --git a/lib/count.py b/lib/count.py\n" + human)
    (task / "task.yaml").write_text(
        "schema: omniperf/task/v1\nid: quickstart\ntitle: x\nrepo: {path: library, human_patch: human.diff}\n"
        "targets: [lib/count.py]\nworkload: workload.py\n"
    )
    done = omniperf("diff", "--human")
    assert done.returncode == 0
    assert "note: task quickstart has changed since this attempt" in done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "return 2" in line)
    assert "this attempt" in done.stdout
    assert line.index("return 2") > 50


def test_no_patch_is_said(omniperf: Omniperf, folder: Path) -> None:
    write_attempt(folder / "results", example_result(patch=None, verdict=Verdict(reason="x")), b"")
    assert omniperf("diff").stdout == "latest: the attempt changed nothing (unverified).\n"
    assert omniperf("diff", "--raw").stdout == ""


def test_diff_of_many_asks_which(omniperf: Omniperf, folder: Path, attempt: Path) -> None:
    identity = example_result().identity.model_copy(update={"n": 2})
    write_attempt(folder / "results", example_result(identity=identity))
    done = omniperf("diff")
    assert done.returncode == 2
    assert f"Name one: {RUN}/quickstart/pattern.1, {RUN}/quickstart/pattern.2" in done.stderr
    assert omniperf("diff", f"{RUN}/quickstart/pattern.2").returncode == 0


def test_on_a_terminal_the_patch_is_coloured(folder: Path, attempt: Path) -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "omniperf", "diff"]
    with subprocess.Popen(command, stdout=child, cwd=folder, env=environment):
        os.close(child)
        output = b""
        try:
            while data := os.read(parent, 65536):
                output += data
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(parent)
    assert b"\x1b[1;32" in output
    assert b"sorted" in output
