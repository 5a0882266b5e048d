"""What came of a planned attempt, as far as its folder can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.results.store import load_result

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.schema import Result
    from omniperf.sweep.plan import Plan, Planned

UNFINISHED = ("cancelled", "infra_error", "harness_error")  # outcomes that are no agent's doing


def result_of(plan: Plan, one: Planned, run: Path) -> Result | None:
    """The result of an attempt in the run's folder; None where there is none, or one that is damaged or another's."""
    try:
        result = load_result(run / one.id)
    except (OmniPerfError, OSError):
        return None
    known, task = result.identity, next(task for task in plan.tasks if task.id == one.task)
    found = (known.run_id, known.task_id, known.task_sha256, known.label, known.n)
    return result if found == (plan.run_id, one.task, task.sha256, one.label, one.n) else None


def finished(result: Result | None) -> bool:
    """Whether an attempt came to its own end."""
    return result is not None and result.outcome.kind not in UNFINISHED
