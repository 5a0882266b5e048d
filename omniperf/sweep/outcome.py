"""What came of a planned attempt, as far as its folder can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.results.store import load_result

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def lost(place: Path, most: float) -> float:
    """The USD of a try that left no result: its whole limit, as nobody knows what it used; none before any request."""
    return most if (place / "trajectory.jsonl").exists() else 0.0


def cost_of_tries(plan: Plan, run: Path) -> Iterator[float]:
    """The USD of each try that was set aside."""
    most = {(one.task, f"{one.label}.{one.n}"): one.usd for one in plan.attempts}
    for place in (run / "interrupted").glob("*/*"):
        try:
            yield load_result(place).usage.usd or 0.0
        except (OmniPerfError, OSError):
            yield lost(place, most.get((place.parent.name, place.name.rpartition(".")[0]), 0.0))
