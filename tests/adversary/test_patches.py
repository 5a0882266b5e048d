"""Tricks must never be improvements, and honest optimizations must always be."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.measure.bench import open_bench
from omniperf.results.events import ignore
from omniperf.verify import behaviour, verdict
from omniperf.verify.preflight import preflight
from tests.adversary.cases import CATALOGUE, files, load_patch, name, numbers, said
from tests.conftest import MEASURED, TEST, WORKLOAD

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.schema import Verdict
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from tests.adversary.conftest import Named

Judge = Callable[[dict[str, Any]], "Verdict"]


def diff(path: str, before: str | None, after: str) -> str:
    """A change of one file, or a new one."""
    old = "/dev/null" if before is None else f"a/{path}"
    return "".join(difflib.unified_diff((before or "").splitlines(True), after.splitlines(True), old, f"b/{path}"))


@pytest.fixture
def judge(make_task: Callable[..., Task], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Verify a case's change on the toy task; what rules read in it is put under `read`."""

    def run(case: dict[str, Any]) -> Verdict:
        if "ENDS" in case:  # it must fail whether or not a rule knows it
            inspect = verdict.inspect_patch
            monkeypatch.setattr(verdict, "inspect_patch", lambda *given: case.update(read=inspect(*given)) or ())
            monkeypatch.setattr(behaviour, "_TIMES", 2.0)  # some never answer
        base = {**case["BASE"], "tests/test_order.py": case.get("TEST", TEST)}
        # A few pairs will do for a trick: what pays, pays a lot, and the sequence may claim from four on.
        rule = "rule: sequence, max_pairs: 6, max_minutes: 0.5" if "ENDS" in case else "max_minutes: 0.5"
        extra = f"measure: {{{rule}}}\n" + case.get("TASK", "")
        task = make_task(extra, workload=case.get("WORKLOAD", WORKLOAD), files=base)
        environment = task.environment.model_copy(update={"host_packages": tuple(case.get("NEEDS", ()))})
        bench = open_bench(task.model_copy(update={"environment": environment}), settings, ignore)
        data = "".join(diff(path, base.get(path), text) for path, text in case["FILES"].items())
        return verdict.verify_patch(bench, data.encode(), preflight(bench, ignore), lambda line: None, ignore)

    return run


def needs(case: dict[str, Any]) -> None:
    lacking = [module for module in case.get("NEEDS", ()) if find_spec(module) is None]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} is not installed")


@pytest.mark.parametrize("file", files("patches/clock", "patches/correctness"), ids=name)
def test_a_trick_is_no_improvement(judge: Judge, named: Named, file: Path, request: pytest.FixtureRequest) -> None:
    case = load_patch(file)
    needs(case)
    if "BEATS" in case:
        request.applymarker(pytest.mark.xfail(reason=case["BEATS"], strict=True))
    found = judge(case)
    named(file, found, case)
    assert found.class_ in case["ENDS"], said(found)


@MEASURED
@pytest.mark.parametrize("file", files("honest"), ids=name)
def test_honest_work_is_an_improvement(judge: Judge, named: Named, file: Path) -> None:
    case = load_patch(file)
    needs(case)
    found = judge(case)
    named(file, found, case)
    assert found.class_ == "improved", said(found)
    assert [finding for finding in found.findings if finding.severity in ("reject", "warn")] == [], said(found)


def test_every_trick_of_the_catalogue_is_played() -> None:
    played = {number for file in files("agents", "patches/clock", "patches/correctness") for number in numbers(file)}
    assert played == CATALOGUE.keys()
