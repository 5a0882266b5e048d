"""Judging a patch by the task's tests: each that passes on base, every time, must pass with the patch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError, UsageError
from omniperf.results.schema import Finding
from omniperf.tasks.schema import Model
from omniperf.verify.task_tests import run_tests

if TYPE_CHECKING:
    from collections.abc import Collection

    from omniperf.measure.bench import Bench
    from omniperf.sandbox.standing import Completed
    from omniperf.verify.task_tests import TestRun

_REPETITIONS, _SECONDS = 3, 60.0  # base's tests are run again while all repetitions together take no longer than that
_SHOWN, _OUTPUT = 5, 4000  # tests, characters


class PassToPass(Model):
    """What base's tests do: `listed` passed every time, `aside` did not (and why). A run of them takes `seconds`.

    `counted` is how many tests a command said that it ran, where that and its exit status are all it says.
    """

    listed: tuple[str, ...]
    aside: dict[str, str]
    counted: dict[str, int]
    seconds: float

    def lost(self, run: TestRun) -> dict[str, str]:
        """The tests of the list that did not pass, and what became of each."""
        outcomes = run.outcomes
        lost = {test: outcomes.get(test, "not reported") for test in self.listed if outcomes.get(test) != "passed"}
        for one in run.commands:
            if (one.counted or 0) < (wanted := self.counted.get(one.command, 0)) and one.done.ok:
                lost[one.command] = f"ended early: {one.counted or 'none'} of base's {wanted} say that they ran"
        return lost

    def against(self, run: TestRun) -> str:
        """What a run says against its tree, with the end of the output: "" where every test of the list passed."""
        lost = self.lost(run)
        failed = run.failed(self.aside)
        if not lost and failed is None:
            return ""
        failed = failed or next((one.done for one in run.commands if not one.done.ok), None)
        return _told(lost, failed)


@dataclass(frozen=True)
class Judged:
    """Whether a patch passes; None where it could not be asked. `aside`: the tests that did not judge it, and why."""

    passed: bool | None
    detail: str = ""
    aside: tuple[str, ...] = ()
    finding: Finding | None = None


def prove_tests(bench: Bench) -> PassToPass:
    """Run the tests on base, more than once where that is quick. Raises UsageError where a command has none that pass.

    Every run is in a fresh tree, as a candidate's is.
    """
    runs: list[TestRun] = []
    started = time.monotonic()
    while not runs or (len(runs) < _REPETITIONS and (len(runs) + 1) * _since(started) / len(runs) < _SECONDS):
        with bench.tree("tests") as tree:
            runs.append(run_tests(bench, tree))
        if (unbuilt := runs[-1].unbuilt) is not None:
            raise _refused(bench, unbuilt)
    seconds = _since(started) / len(runs)
    outcomes = [run.outcomes for run in runs]
    listed, aside = [], {}
    for test in dict.fromkeys(test for run in outcomes for test in run):
        found = {run.get(test, "not reported") for run in outcomes}
        if found == {"passed"}:
            listed.append(test)
        elif found != {"skipped"}:
            aside[test] = "fails on base" if found == {"failed"} else "differs from run to run on base"
    for run in runs:
        if (failed := run.failed(aside) or _idle(run, listed)) is not None:
            raise _refused(bench, failed)
    counted: dict[str, int] = {}
    for one in (one for run in runs for one in run.commands):
        if one.counted is not None:
            counted[one.command] = min(one.counted, counted.get(one.command, one.counted))
    return PassToPass(listed=tuple(listed), aside=aside, counted=counted, seconds=seconds)


def judge(bench: Bench, proved: PassToPass, patch: bytes) -> Judged:
    """Run the tests with the patch. What fails is run once more, and on base, before the patch is blamed for it.

    Code under test can end its process with status 0 or write a report itself, so a test that is not reported has not
    passed, and one that can only fail must be reported as failed. Raises OmniPerfError where base fails by now.
    """
    first = _run(bench, patch)
    if tampered := _tampered(first, proved):
        return tampered
    lost, known = proved.lost(first), dict(proved.aside)
    if not proved.against(first):
        return Judged(True, aside=_said(known))
    again, base = _run(bench, patch), _run(bench, b"")
    if tampered := _tampered(again, proved):
        return tampered
    lost_again, lost_on_base = proved.lost(again), proved.lost(base)
    for test in {**lost, **lost_again}:
        if test in lost_on_base:
            known[test] = "no longer passes on base"
        elif (test in lost) != (test in lost_again):
            known[test] = "failed once with the patch and passed once"
    if (failed := base.failed({**known, **lost_on_base}) or _idle(base, proved.listed)) is not None:
        raise OmniPerfError(
            f"The task's tests fail on base too (a command {failed.ending}).",
            "Correct `tests`, or what they need on this host.",
            output=failed.output,
        )
    blamed = {test: what for test, what in lost_again.items() if test not in known}
    failed = again.failed(known) if first.failed(known) is not None else None
    if blamed or failed is not None:
        failed = failed or next((one.done for one in again.commands if not one.done.ok), None)
        return Judged(False, _told(blamed, failed), _said(known))
    left = set(proved.listed) - known.keys()
    for one in base.commands:  # what cannot be checked is not called clean
        if not left & one.outcomes.keys():
            return Judged(False, f"No test of `{one.command}` passed with the patch both times.", _said(known))
    return Judged(True, aside=_said(known))


def _run(bench: Bench, patch: bytes) -> TestRun:
    with bench.tree("tests", patch) as tree:
        return run_tests(bench, tree)


def _idle(run: TestRun, listed: Collection[str]) -> Completed | None:
    """The first command none of whose tests is listed and passed."""
    wanted = set(listed)
    for one in run.commands:
        if not any(outcome == "passed" and test in wanted for test, outcome in one.outcomes.items()):
            return one.done
    return None


def _refused(bench: Bench, failed: Completed) -> UsageError:
    """Why base's own tests cannot judge a patch."""
    said = f"Task {bench.task.id}: its tests fail on base (a command {failed.ending})."
    if failed.ok:
        said = f"Task {bench.task.id}: no test of a command passes on base every time."
    no_pytest = "No module named pytest" in failed.output
    remedy = "Correct `tests` or `environment.setup`: a verdict needs tests that pass on base."
    remedy = "Add `pip install pytest` to `environment.setup`." if no_pytest else remedy
    return UsageError(said, remedy, output=failed.output)


def _tampered(run: TestRun, proved: PassToPass) -> Judged | None:
    """The judgement where a report calls a test passed that can only fail, and base's did not."""
    commands = [one.command for one in run.commands if one.tampered and one.command not in proved.listed]
    if not commands:
        return None
    message = "With the patch a test that can only fail did not: it changes what the tests say."
    remedy = "Leave the test machinery alone."
    finding = Finding(id="tests-tampered", severity="reject", message=message, evidence=commands[0], remedy=remedy)
    return Judged(False, message, finding=finding)


def _told(lost: dict[str, str], failed: Completed | None) -> str:
    """The tests that did not pass, the first few by name, and how the command that failed ended."""
    lines = [f"{test}: {what}" for test, what in list(lost.items())[:_SHOWN]]
    if len(lost) > _SHOWN:
        lines.append(f"and {len(lost) - _SHOWN} more")
    if failed is not None:
        lines += [f"A command {failed.ending}.", failed.output[-_OUTPUT:].strip()]
    return "\n".join(lines)


def _said(aside: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{test} ({why})" for test, why in aside.items())


def _since(started: float) -> float:
    return time.monotonic() - started
