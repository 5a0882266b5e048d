"""What many attempts on the same tasks come to."""

from __future__ import annotations

import itertools
import statistics

import pytest

from omniperf.results.best_of import at_least_one, best_of
from omniperf.results.schema import Outcome, Result, Verdict
from tests.example_result import estimate, example_result


def attempt(n: int, task: str, class_: str, speedup: float | None = None, human: str | None = None) -> Result:
    verdict = Verdict(
        **{"class": class_, "versus_human": human}, speedup=None if speedup is None else estimate(speedup)
    )
    result = example_result(verdict=verdict)
    provenance = result.provenance.model_copy(update={"human": "0" * 40 if human else None})
    result = result.model_copy(update={"provenance": provenance})
    return result.model_copy(update={"identity": result.identity.model_copy(update={"n": n, "task_id": task})})


@pytest.mark.parametrize(("n", "c"), [(5, 0), (5, 1), (5, 3), (6, 6)])
def test_the_estimator_is_the_share_of_draws_that_hold_a_success(n: int, c: int) -> None:
    outcomes = [True] * c + [False] * (n - c)
    for k in range(1, n + 1):
        share = statistics.fmean(any(draw) for draw in itertools.combinations(outcomes, k))
        assert at_least_one(n, c, k) == pytest.approx(share)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (0, 0, 1)])
def test_there_is_no_estimate_for_more_attempts_than_there_are(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="attempts"):
        at_least_one(n, c, k)


def test_pass_and_opt_and_the_best_of_each_task() -> None:
    (found,) = best_of(
        [
            attempt(1, "one", "improved", 1.5, "below_human"),
            attempt(2, "one", "improved", 2.0, "matches_human"),
            attempt(3, "one", "regressed", 0.5, "below_human"),
            attempt(1, "two", "no_change", 1.0),
            attempt(2, "two", "incorrect"),
            attempt(3, "two", "rejected", 9.0),
        ]
    )
    assert found["pass_at"] == {"1": pytest.approx(1 / 3), "2": 0.5, "3": 0.5}
    assert found["opt_at"] == {"1": pytest.approx(1 / 3), "2": pytest.approx(2 / 3), "3": 1.0}
    assert found["best"]["one"]["n"] == 2
    assert found["best"]["two"] is None


def test_a_task_where_all_failed_counts_and_what_the_host_ended_does_not() -> None:
    failed = attempt(1, "two", "incorrect")
    failed = failed.model_copy(update={"provenance": failed.provenance.model_copy(update={"human": "0" * 40})})
    broken = attempt(2, "one", "unverified")
    broken = broken.model_copy(update={"outcome": Outcome(kind="infra_error", infra_kind="network")})
    (found,) = best_of([attempt(1, "one", "improved", 2.0, "beats_human"), broken, failed])
    assert (found["pass_at"], found["opt_at"]) == ({"1": 0.5}, {"1": 0.5})


def test_without_a_human_patch_there_is_no_opt() -> None:
    (found,) = best_of([attempt(1, "one", "improved", 1.5)])
    assert (found["pass_at"], found["opt_at"]) == ({"1": 1.0}, None)
