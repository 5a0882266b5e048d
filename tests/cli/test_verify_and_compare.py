"""`verify` measures again what others measured, and `compare` says whether they agree."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from example_result import RUN, estimate, example_result, write_attempt

from omniperf.results.schema import Finding, Verdict
from omniperf.results.store import read_lines
from omniperf.tasks.load import task_sha256
from tests.conftest import FAST, MEASURED
from tests.verify.test_verdicts import added, order

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from omniperf.tasks.schema import Task

    Omniperf = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = MEASURED

GARBAGE = b"this is no diff\n"
OUTSIDE = added("other/module.py", "x = 1\n")


@pytest.fixture
def task(make_task: Callable[..., Task], bubblewrap: None) -> Task:
    return make_task()


@pytest.fixture
def verify(omniperf: Omniperf, task: Task, shared_cache: Path) -> Omniperf:
    return partial(omniperf, "verify", "--tasks", str(task.folder.parent), OMNIPERF_CACHE=str(shared_cache))


@pytest.fixture
def attempt(task: Task, folder: Path) -> Callable[..., Path]:
    """An attempt that somebody else made on the toy."""

    def write(patch: bytes, n: int = 1, **changes: Any) -> Path:
        result = example_result()
        identity = {"task_id": "toy", "task_sha256": task_sha256(task), "n": n, **changes}
        info = result.patch.model_copy(update={"sha256": hashlib.sha256(patch).hexdigest()})  # type: ignore[union-attr]
        result = result.model_copy(update={"identity": result.identity.model_copy(update=identity), "patch": info})
        return write_attempt(folder / "results", result, patch)

    return write


def predictions(folder: Path, *lines: object) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "predictions.jsonl").write_text(text + "\n")
    return "predictions.jsonl"


def prediction(patch: bytes, name: object = "toy", model: object = "m") -> dict[str, object]:
    return {"instance_id": name, "model_name_or_path": model, "model_patch": patch.decode()}


def test_an_attempt_is_measured_again(verify: Omniperf, omniperf: Omniperf, attempt: Callable[..., Path]) -> None:
    where = attempt(order(FAST))
    done = verify(str(where), "--out", "again", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["before"], found["verdict"]["class"], found["label"]) == ("improved", "improved", "pattern.1")
    assert found["verdict"]["speedup"]["speedup"] > 5, "measured, not copied"
    kept = where.parents[3] / "again" / "toy" / found["patch_sha256"][:16]
    assert json.loads((kept / "verification.json").read_text()) == found
    pairs = [line for line in read_lines(kept / "measurements.jsonl") if line.get("label") == "verify"]
    assert len(pairs) == found["verdict"]["speedup"]["pairs"]
    compared = omniperf("compare", "latest", "again", "--require", "agree")
    assert compared.returncode == 3, "the attempt's own 1.84x is an invention"
    assert "the 95 % intervals do not overlap" in compared.stdout
    assert omniperf("compare", "again", "again", "--require", "agree").returncode == 0


def test_a_run_is_one_table(verify: Omniperf, attempt: Callable[..., Path]) -> None:
    attempt(GARBAGE)
    attempt(OUTSIDE, 2)
    for columns in (80, 120):
        done = verify("latest", COLUMNS=str(columns))
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()]
        assert rows[0] == ["task", "patch", "of", "verdict", "speedup", "interval", "before"]
        assert [row[:3] for row in rows[2:4]] == [["toy", "pattern.1", "invalid"], ["toy", "pattern.2", "rejected"]]
        assert done.stdout.endswith("2 patches: 1 invalid, 1 rejected\n")
        assert max(map(len, done.stdout.splitlines())) <= columns
    assert verify(RUN, "--require", "invalid").returncode == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task_sha256": "0" * 64}, "task toy is not what it was for this attempt. Measure all the same: --force."),
        ({"task_id": "../tasks/toy"}, "there is no task '../tasks/toy' here."),
    ],
)
def test_another_task_is_not_measured_unasked(
    verify: Omniperf, attempt: Callable[..., Path], change: dict[str, str], said: str
) -> None:
    where = attempt(GARBAGE)
    result = json.loads((where / "result.json").read_text())
    result["identity"] |= change
    (where / "result.json").write_text(json.dumps(result))
    done = verify(str(where))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert verify(str(where), "--force").returncode == (0 if "task_sha256" in change else 2)


def test_a_patch_that_is_not_the_results_is_not_measured_unasked(
    verify: Omniperf, attempt: Callable[..., Path]
) -> None:
    where = attempt(GARBAGE)
    attempt(OUTSIDE, 2)
    (where / "model_patch.diff").write_bytes(OUTSIDE)
    done = verify(RUN, "--json")
    assert done.returncode == 1
    assert [found["label"] for found in json.loads(done.stdout)] == ["pattern.2"]
    assert "pattern.1: model_patch.diff is not the patch of its result.json." in done.stderr


def test_each_bad_prediction_is_named_by_its_line_and_the_rest_is_measured(verify: Omniperf, folder: Path) -> None:
    escapes = ("../toy", "/etc/passwd", "toy/task.yaml", "toy\x1b[2J")
    file = predictions(
        folder,
        prediction(GARBAGE),
        "",
        "{not json",
        prediction(GARBAGE),
        [1],
        prediction(OUTSIDE, model="other"),
        {"instance_id": "toy", "model_name_or_path": "none", "model_patch": None},
        prediction(GARBAGE, model=3),
        *(prediction(GARBAGE, name) for name in escapes),
    )
    done = verify("--predictions", file, "--json")
    assert done.returncode == 1
    found = [(one["label"], one["verdict"]["class"]) for one in json.loads(done.stdout)]
    assert found == [("m", "invalid"), ("other", "rejected"), ("none", "no_patch")]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    lines = [int(line.split(":")[2]) for line in errors]
    assert lines == [3, 4, 5, 8, 9, 10, 11, 12]
    assert "a second patch of m for toy" in errors[1]
    assert all("there is no task" in line for line in errors[4:])
    assert "\x1b" not in done.stderr


def test_a_batch_that_was_stopped_goes_on(verify: Omniperf, folder: Path) -> None:
    out = ("--out", "kept", "--json")
    first = json.loads(verify("--predictions", predictions(folder, prediction(GARBAGE)), *out).stdout)
    both = predictions(folder, prediction(OUTSIDE, model="b"), prediction(GARBAGE, model="again"))
    done = json.loads(verify("--predictions", both, *out).stdout)
    assert [one["label"] for one in done] == ["b", "again"]
    assert done[1] == {**first[0], "label": "again"}, "not measured twice"
    (kept,) = folder.glob(f"kept/toy/{first[0]['patch_sha256'][:16]}/verification.json")
    for spoilt in (kept.read_text()[:-9], kept.read_text().replace(first[0]["task_sha256"], "0" * 64)):
        kept.write_text(spoilt)
        kept.with_name("measurements.jsonl").write_text('{"of": "another time"}\n')
        fresh = json.loads(verify("--predictions", both, *out).stdout)
        assert fresh[0] == done[0]
        assert fresh[1]["finished"] > done[1]["finished"]
        assert fresh[1]["task_sha256"] == first[0]["task_sha256"]
        assert not kept.with_name("measurements.jsonl").exists(), "what belongs to no verdict is gone"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name one thing to verify."),
        (["toy", "--predictions", "x.jsonl"], "Name one thing to verify."),
        (["--patch", "x.diff"], "Name one thing to verify."),
        (["--predictions", "x.jsonl"], "The predictions x.jsonl cannot be read (No such file or directory)."),
        (["nothing"], "no run, and no task of a run, is called 'nothing'"),
    ],
)
def test_what_cannot_be_verified_is_a_usage_error(omniperf: Omniperf, arguments: list[str], said: str) -> None:
    done = omniperf("verify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def two_runs(folder: Path) -> None:
    """Two hosts' runs of the same patches: one agrees, one does not, one decided nothing on one host."""
    for host, run, speedups in (("here", RUN, (1.84, 1.5, 1.01)), ("there", f"{RUN[:-1]}0", (1.86, 1.0, 1.0))):
        for n, speedup in enumerate(speedups, 1):
            class_ = "improved" if speedup > 1.1 else "inconclusive" if speedup > 1 else "no_change"
            verdict = Verdict.model_validate({"class": class_, "speedup": estimate(speedup)})
            result = example_result(verdict=verdict)
            info = result.patch.model_copy(update={"sha256": f"{n}" * 64})  # type: ignore[union-attr]
            identity = result.identity.model_copy(update={"run_id": run, "n": n})
            facts = {**result.environment, "host": host}
            changes = {"identity": identity, "patch": info, "environment": facts}
            write_attempt(folder / "results", result.model_copy(update=changes))


def test_compare_says_of_each_patch_whether_two_hosts_agree(omniperf: Omniperf, two_runs: None) -> None:
    here, there = RUN, f"{RUN[:-1]}0"
    for columns in (80, 120):
        shown = omniperf("compare", here, there, COLUMNS=str(columns)).stdout
        assert max(map(len, shown.splitlines())) <= columns
        rows = [" ".join(line.split()) for line in shown.splitlines()]
        assert "quickstart A improved 1.840x 1.785 to 1.895" in rows
        assert "11111111 B improved 1.860x 1.804 to 1.916" in rows
        assert "B/A agree 1.011x 0.969 to 1.055" in rows
        why = "quickstart 22222222: improved in A, no_change in B; the 95 % intervals do not overlap"
        assert why in " ".join(rows)
        assert "quickstart 33333333: A decided nothing" in rows
        assert "2 of 3 pairs agree" in rows
        assert "host here there" in rows
    plain = json.loads(omniperf("compare", here, there, "--json").stdout)
    assert (plain["agree"], [pair["agree"] for pair in plain["pairs"]]) == (False, [True, False, True])
    assert plain["environment"] == {"host": {"a": "here", "b": "there"}}
    gate = omniperf("compare", here, there, "--require", "agree")
    assert (gate.returncode, gate.stderr) == (3, "gate not met: agree was required\n")
    assert omniperf("compare", f"{here}/quickstart/pattern.1", there).returncode == 0
    assert omniperf("compare", f"{here}/quickstart/pattern.1", f"{there}/quickstart/pattern.2").returncode == 1
    assert omniperf("compare", here, there, "--require", "improved").returncode == 2


def test_tests_set_aside_are_told(omniperf: Omniperf, folder: Path) -> None:
    names = tuple(f"tests/test_a.py::test_{n} (fails on base)" for n in range(5))
    verdict = example_result().verdict
    correctness = verdict.correctness.model_copy(update={"tests_set_aside": names})
    findings = (Finding(id="x", severity="info", message="x"),)
    verdict = verdict.model_copy(update={"correctness": correctness, "findings": findings})
    write_attempt(folder / "results", example_result(verdict=verdict))
    shown = " ".join(omniperf("show").stdout.split())
    assert (
        "tests pass · outputs equal (24 compared, 6 seeds)" in shown
        and "5 tests set aside: tests/test_a.py::test_0 (fails" in shown
    )
    assert "test_2 (fails on base) and 2 more" in shown
