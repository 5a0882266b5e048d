"""Tricks must never be improvements, and honest optimizations must always be.

A trick is one file under `clock/` or `correctness/`, an honest control one under `honest/`. Such a file is data: its
docstring says what the patch does and why it could pay, and its constants are

- `PATCHED`, the candidate's toy/order.py, or `FILES`, a mapping of paths to the candidate's sources;
- `BASE`, optional: toy/order.py at base, or a mapping of paths to sources there (SLOW of tests/conftest.py otherwise);
- `WORKLOAD` and `TEST`, optional: the workload, and the test module of the repository;
- `TASK`, optional: YAML added to the task file;
- `ENDS`, for tricks: the classes of verdict in which it may end, never `improved`;
- `NEEDS`, optional: modules that the task takes from the host, and without which it is skipped;
- `BEATS`, for a trick that does win: why. Its test must then fail, and says so once it no longer does.
"""

from __future__ import annotations

import difflib
import runpy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.measure.bench import open_bench
from omniperf.results.events import ignore
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import SLOW, TEST, WORKLOAD

if TYPE_CHECKING:
    from omniperf.results.schema import Verdict
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

HERE = Path(__file__).parent
ENDS = {"incorrect", "rejected", "invalid", "no_change", "inconclusive", "regressed"}
KEYS = {"PATCHED", "FILES", "BASE", "WORKLOAD", "TEST", "TASK", "ENDS", "NEEDS", "BEATS"}

Judge = Callable[[dict[str, Any]], "Verdict"]


def files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((HERE / folder).glob("*.py"))]


def name(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


def load(file: Path) -> dict[str, Any]:
    """The constants of a file, complete and checked."""
    found = runpy.run_path(str(file))
    case = {key: found[key] for key in KEYS & found.keys()}
    assert (found["__doc__"] or "").strip(), "say what it does and why it could pay"
    assert ("PATCHED" in case) != ("FILES" in case), "give PATCHED or FILES"
    assert set(case.get("ENDS", ())) <= ENDS
    base, changed = case.get("BASE", SLOW), case.pop("PATCHED", None)
    case["BASE"] = base if isinstance(base, dict) else {"toy/order.py": base}
    case.setdefault("FILES", {"toy/order.py": changed})
    return case


def diff(path: str, before: str | None, after: str) -> str:
    """A change of one file, or a new one."""
    old = "/dev/null" if before is None else f"a/{path}"
    return "".join(difflib.unified_diff((before or "").splitlines(True), after.splitlines(True), old, f"b/{path}"))


@pytest.fixture
def judge(
    make_task: Callable[..., Task], settings: Settings, bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> Judge:
    """Verify a case's change on the toy task, of which equal ones have one commit: they are proved on base once."""
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_DATE", "2026-01-01T00:00:00Z")

    def run(case: dict[str, Any]) -> Verdict:
        if "ENDS" in case:  # a trick must fail whether or not a rule knows it
            monkeypatch.setattr("omniperf.verify.verdict.inspect_patch", lambda *_: ())
        base = {**case["BASE"], "tests/test_order.py": case.get("TEST", TEST)}
        # A few pairs will do for a trick: what pays, pays a lot, and the sequence may claim from four on.
        rule = "rule: sequence, max_pairs: 6, max_minutes: 0.5" if "ENDS" in case else "max_minutes: 0.5"
        extra = f"measure: {{{rule}}}\n" + case.get("TASK", "")
        task = make_task(extra, workload=case.get("WORKLOAD", WORKLOAD), files=base)
        environment = task.environment.model_copy(update={"host_packages": tuple(case.get("NEEDS", ()))})
        bench = open_bench(task.model_copy(update={"environment": environment}), settings, ignore)
        data = "".join(diff(path, case["BASE"].get(path), text) for path, text in case["FILES"].items())
        return verify_patch(bench, data.encode(), preflight(bench, ignore), lambda line: None, ignore)

    return run


def needs(case: dict[str, Any]) -> None:
    lacking = [module for module in case.get("NEEDS", ()) if find_spec(module) is None]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} is not installed")


def said(verdict: Verdict) -> str:
    """What pytest shows whole, in lines of its own."""
    return "\n".join((f"{verdict.class_}: {verdict.reason}", *map(str, verdict.findings), str(verdict.correctness)))


@pytest.mark.parametrize("file", files("clock", "correctness"), ids=name)
def test_a_trick_is_no_improvement(judge: Judge, file: Path, request: pytest.FixtureRequest) -> None:
    case = load(file)
    needs(case)
    if "BEATS" in case:
        request.applymarker(pytest.mark.xfail(reason=case["BEATS"], strict=True))
    verdict = judge(case)
    assert verdict.class_ in case["ENDS"], said(verdict)


@pytest.mark.parametrize("file", files("honest"), ids=name)
def test_honest_work_is_an_improvement(judge: Judge, file: Path) -> None:
    case = load(file)
    needs(case)
    verdict = judge(case)
    assert verdict.class_ == "improved", said(verdict)
    assert [finding for finding in verdict.findings if finding.severity in ("reject", "warn")] == [], said(verdict)
