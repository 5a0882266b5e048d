"""The task's own tests, run in a tree: what became of each of them.

pytest and unittest are asked for every test's outcome, through `inside/omniperf_reporter.py`. A command that runs
neither, or whose report is not whole, is one test itself, named as it is written: all that is known is how it ended.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.sandbox.spec import Mount
from omniperf.sandbox.standing import StandingSandbox

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from omniperf.measure.bench import Bench
    from omniperf.sandbox.standing import Completed
    from omniperf.workspace.worktree import Workspace

_INSIDE, _MOUNTED, _PLUGIN = Path(__file__).with_name("inside"), "/omniperf/tests", "omniperf_reporter"
_UNITTEST = re.compile(r"-m unittest(?![\w.])")
_COUNTS = re.compile(r"\b(\d+) passed\b|^Ran (\d+) tests? in ", re.MULTILINE)  # pytest's summary, unittest's
_REPORT_BYTES, _REPORT_SECONDS = 8 * 2**20, 60.0
_WORST = ("failed", "passed", "skipped")  # what counts where one test has several outcomes


@dataclass(frozen=True)
class CommandRun:
    """How a command of the tests ended, and what became of its tests: `passed`, `failed` or `skipped`, by id.

    `counted` is how many tests its output says ran, where that is all it says. `tampered`: a test that can only fail
    was reported as something else.
    """

    command: str
    done: Completed
    outcomes: Mapping[str, str]
    counted: int | None = None
    tampered: bool = False

    def held(self, aside: Collection[str]) -> bool:
        """Whether it ended well, or failed by nothing but tests that are set aside."""
        failing = {test for test, outcome in self.outcomes.items() if outcome == "failed"}
        ended = self.done.exit_code > 0 and not self.done.stopped_by
        return self.done.ok or (ended and bool(failing) and failing <= set(aside))


@dataclass(frozen=True)
class TestRun:
    """One run of all the commands. `unbuilt` is the command of the build that failed before any could run, or None."""

    __test__ = False  # whatever pytest takes its name for

    commands: tuple[CommandRun, ...] = ()
    unbuilt: Completed | None = None

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome of every test of all commands."""
        return _merged((test, outcome) for one in self.commands for test, outcome in one.outcomes.items())

    def failed(self, aside: Collection[str]) -> Completed | None:
        """The first command that failed by more than tests that are set aside, or None."""
        return self.unbuilt or next((one.done for one in self.commands if not one.held(aside)), None)


def run_tests(bench: Bench, tree: Workspace, seconds: float | None = None) -> TestRun:
    """Build the tree and run every command of the tests there. `seconds` limits each further than the task does."""
    unbuilt = bench.build(tree)
    if unbuilt is not None:
        return TestRun(unbuilt=unbuilt)
    limit = bench.task.limits.command_seconds
    limit = limit if seconds is None else min(limit, seconds)
    spec = bench.spec(tree)
    spec = replace(spec, mounts=(*spec.mounts, Mount(_INSIDE, _MOUNTED)))
    with StandingSandbox(bench.backend, spec) as sandbox:
        where = bench.backend.where(sandbox.spec, _MOUNTED)
        return TestRun(tuple(_run(sandbox, where, command, limit) for command in bench.task.tests))


def _run(sandbox: StandingSandbox, where: str, command: str, seconds: float) -> CommandRun:
    """Run one command, asking for a report whose name nobody knows in advance."""
    report = f"/tmp/{secrets.token_hex(16)}"  # noqa: S108 - the sandbox's own
    path, options = (sandbox.env.get(name, "") for name in ("PYTHONPATH", "PYTEST_ADDOPTS"))
    asked = {
        "OMNIPERF_TEST_REPORT": report,
        "PYTHONPATH": os.pathsep.join(filter(None, (path, where))),
        "PYTEST_ADDOPTS": f"{options} -p {_PLUGIN}".strip(),
    }
    done = sandbox.run(_UNITTEST.sub(shlex.quote(f"{where}/{_PLUGIN}.py"), command), seconds, asked)
    said = sandbox.run(f"cat {report} && rm -f {report}", _REPORT_SECONDS, kept_bytes=_REPORT_BYTES)
    if not said.ok and f'Error importing plugin "{_PLUGIN}"' in done.output:  # the command has a PYTHONPATH of its own
        done = sandbox.run(command, seconds)
    outcomes, canaries = _read(said.output) if said.ok else ({}, set())
    if outcomes and canaries == {"failed"}:
        return CommandRun(command, done, outcomes)
    counts = [int(passed or ran) for passed, ran in _COUNTS.findall(done.output)[-1:]]
    alone = {command: "passed" if done.ok else "failed"}
    return CommandRun(command, done, alone, sum(counts) if counts else None, bool(canaries - {"failed", "absent"}))


def _read(report: str) -> tuple[dict[str, str], set[str]]:
    """The outcomes that a report tells, and those of the test that can only fail. Trusts nothing in it."""
    tests: list[tuple[str, str]] = []
    canaries: set[str] = set()
    try:
        for line in report.splitlines():
            part = json.loads(line)
            tests += [(str(test), str(outcome)) for test, outcome in part["tests"]]
            canaries |= {str(outcome) for outcome in part["canary"]} or {"absent"}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}, set()
    return _merged(tests), canaries


def _merged(tests: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One outcome a test: a failure outweighs a pass, and a pass a skip."""
    found: dict[str, str] = {}
    for test, outcome in tests:
        if outcome in _WORST and _WORST.index(outcome) <= _WORST.index(found.get(test, "skipped")):
            found[test] = outcome
    return found
