"""Many attempts on the same task: which is best, and what K of them would come to."""

from __future__ import annotations

from collections import defaultdict
from math import comb
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from omniperf.results.schema import Result


def at_least_one(n: int, successes: int, k: int) -> float:
    """The chance that k attempts, drawn from n of which so many succeeded, hold a success: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of pass@k (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1).
    Raises ValueError where there are not k attempts.
    """
    if not 0 < k <= n or not 0 <= successes <= n:
        raise ValueError(f"{k} of {n} attempts, {successes} of them successes")
    return 1.0 - comb(n - successes, k) / comb(n, k)


def best_of(results: Iterable[Result]) -> list[dict[str, Any]]:
    """For each agent: pass@K and Opt@K, K from 1 to the attempts that every task has, and its best of each task.

    A success of pass@K is an `improved` verdict, one of Opt@K such a verdict that is not below the human patch (GSO,
    Shetty et al. 2025); tasks without a human patch are left out of it, and it is None where nothing was compared with
    one. Attempts that host or provider ended are none.
    Both are None for the attempts of a chain: they estimate what K attempts drawn at random would come to, and these are
    no draws, since each begins where others ended.
    The best is the attempt that claims most: each claims at a confidence that is shared among all attempts on the task.
    """
    found: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result.outcome.kind in ("infra_error", "harness_error", "cancelled"):
            continue
        found[result.identity.label][result.identity.task_id].append(result)
    return [_of_one(label, tasks) for label, tasks in sorted(found.items())]


def _of_one(label: str, tasks: dict[str, list[Result]]) -> dict[str, Any]:
    chained = any(one.start is not None for some in tasks.values() for one in some)
    most = 0 if chained else min(map(len, tasks.values()))
    compared = [some for some in tasks.values() if any(_has_human(one) for one in some)]
    if not any(one.verdict.versus_human for some in compared for one in some):
        compared = []
    bests = {task: max(filter(_improved, some), key=_claim, default=None) for task, some in sorted(tasks.items())}
    return {
        "agent": label,
        "pass_at": _at(list(tasks.values()), _improved, most) if most else None,
        "opt_at": _at(compared, _as_good_as_human, most) if compared and most else None,
        "best": {task: None if one is None else {"n": one.identity.n, **_measured(one)} for task, one in bests.items()},
    }


def _at(tasks: list[list[Result]], success: Callable[[Result], bool], most: int) -> dict[str, float]:
    counted = [(len(some), sum(map(success, some))) for some in tasks]
    return {str(k): round(fmean(at_least_one(n, c, k) for n, c in counted), 6) for k in range(1, most + 1)}


def _improved(result: Result) -> bool:
    return result.verdict.class_ == "improved"


def _has_human(result: Result) -> bool:
    return result.provenance.human is not None or result.verdict.versus_human is not None


def _as_good_as_human(result: Result) -> bool:
    return _improved(result) and result.verdict.versus_human in ("beats_human", "matches_human")


def _claim(result: Result) -> float:
    speedup = result.verdict.speedup
    return speedup.claim.low if speedup else 0.0


def _measured(result: Result) -> dict[str, float]:
    speedup = result.verdict.speedup
    return {"speedup": speedup.speedup, "at_least": speedup.claim.low} if speedup else {}
