"""The task's own tests, run in a tree: whether they pass, and how many say that they did."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from omniperf.sandbox.standing import StandingSandbox

if TYPE_CHECKING:
    from omniperf.measure.bench import Bench
    from omniperf.sandbox.standing import Completed
    from omniperf.workspace.worktree import Workspace

_COUNTS = re.compile(r"\b(\d+) passed\b|^Ran (\d+) tests? in ", re.MULTILINE)  # pytest's summary, unittest's


def run_tests(bench: Bench, tree: Workspace, seconds: float | None = None) -> tuple[Completed | None, int | None]:
    """Build the tree and run the tests there: the first command that fails, or None, and the number of tests that ran.

    The number is what pytest and unittest print at their end, None where nothing like it is printed. `seconds` limits
    each command further than the task does.
    """
    failed = bench.build(tree)
    if failed is not None:
        return failed, None
    limit, counts = bench.task.limits.command_seconds, []
    with StandingSandbox(bench.backend, bench.spec(tree)) as sandbox:
        for command in bench.task.tests:
            done = sandbox.run(command, limit if seconds is None else min(limit, seconds))
            if not done.ok:
                return done, None
            counts += [int(passed or ran) for passed, ran in _COUNTS.findall(done.output)[-1:]]
    return None, sum(counts) if counts else None
