"""Two measurements of one patch agree, or it is said why not."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from example_result import estimate

from omniperf.errors import OmniPerfError
from omniperf.results.agreement import agreement, compare
from omniperf.results.schema import Estimate, Interval, Verdict, Verification


def verified(class_: str, speedup: Estimate | None = None, **changes: Any) -> Verification:
    verdict = Verdict.model_validate({"class": class_, "speedup": speedup})
    fields = {
        "task_id": "toy", "task_sha256": "1" * 64, "label": "null.1", "patch_sha256": "2" * 64, "verdict": verdict,
        "finished": "2026-11-21T10:45:31Z", "omniperf_version": "0.1.0", "environment": {}, "sandbox": "bubblewrap",
    }  # fmt: skip
    return Verification(**{**fields, **changes})


def between(low: float, high: float) -> Estimate:
    middle = math.sqrt(low * high)
    return estimate(middle).model_copy(update={"interval": Interval(low=low, high=high, confidence=0.95)})


TIMED = ("improved", "no_change", "regressed", "inconclusive")
UNTIMED = ("incorrect", "rejected", "invalid", "no_patch")


@pytest.mark.parametrize("one", TIMED + UNTIMED)
@pytest.mark.parametrize("other", TIMED + UNTIMED)
def test_classes_agree_where_they_are_the_same_or_timing_decided_nothing(one: str, other: str) -> None:
    found = agreement(verified(one), verified(other))
    undecided = "inconclusive" in (one, other) and {one, other} <= set(TIMED)
    assert found.agree == (one == other or undecided)
    assert (found.why == "") == (one == other)
    assert ("decided nothing" in found.why) == (undecided and one != other)


@pytest.mark.parametrize("class_", ["improved", "inconclusive"])
def test_intervals_that_do_not_overlap_disagree_whatever_the_classes(class_: str) -> None:
    near = agreement(verified("improved", between(1.2, 1.4)), verified(class_, between(1.4, 1.8)))
    far = agreement(verified("improved", between(1.2, 1.4)), verified(class_, between(1.41, 1.8)))
    assert (near.agree, far.agree) == (True, False)
    assert "do not overlap" in far.why


def test_the_ratio_is_bs_by_as() -> None:
    found = agreement(verified("improved", between(1.9, 2.1)), verified("improved", between(3.0, 3.2)))
    assert found.ratio == pytest.approx(math.sqrt(3.0 * 3.2 / (1.9 * 2.1)))
    assert found.interval is not None
    # Worked by hand: the widths of the two log intervals add as the sides of a right angle.
    half = math.hypot(math.log(2.1 / 1.9) / 2, math.log(3.2 / 3.0) / 2)
    assert math.log(found.interval.high / found.ratio) == pytest.approx(half)
    assert math.log(found.ratio / found.interval.low) == pytest.approx(half)


def test_the_interval_of_the_ratio_holds_the_truth_19_times_in_20() -> None:
    rng, held, times = random.Random(7), 0, 2000
    for _ in range(times):
        sides = []
        for truth, error in ((1.5, 0.02), (1.8, 0.05)):
            seen = math.log(truth) + rng.gauss(0, error)
            around = Interval(low=math.exp(seen - 1.96 * error), high=math.exp(seen + 1.96 * error), confidence=0.95)
            speedup = estimate(math.exp(seen)).model_copy(update={"interval": around})
            sides.append(verified("improved", speedup))
        found = agreement(*sides)
        assert found.interval is not None
        held += found.interval.low <= 1.8 / 1.5 <= found.interval.high
    assert 0.93 < held / times < 0.97


@pytest.mark.parametrize("low", [0.0, -1.0, math.nan, math.inf])
def test_numbers_that_no_measurement_gives_are_not_compared(low: float) -> None:
    odd = verified("improved", between(1.0, 2.0).model_copy(update={"interval": Interval(low=low, high=2, confidence=1)}))
    assert agreement(odd, odd).ratio is None


def test_verdicts_are_paired_by_task_and_patch() -> None:
    a = [verified("improved", label=name) for name in ("one", "two")]
    a.append(verified("invalid", patch_sha256="3" * 64))
    b = [verified("improved"), verified("improved", task_sha256="4" * 64), verified("unverified", patch_sha256="3" * 64)]
    found = compare(a, b)
    assert [(pair.a.label, pair.agree) for pair in found.pairs] == [("one", True)]
    assert [one.label for one in found.only_a] == ["two", "null.1"]
    assert [one.task_sha256 for one in found.only_b] == ["4" * 64]
    assert found.agree
    with pytest.raises(OmniPerfError, match="No verdict of A and none of B"):
        compare(a, b[1:])


def test_only_what_differs_between_the_environments_is_told() -> None:
    gpu = {"name": "H100", "driver": "560.1"}
    here = {"host": "a", "cpu": {"model": "x", "cores": 2}, "gpus": [gpu], "task_packages": {"torch": "2.6"}}
    there = {**here, "host": "b", "gpus": [{**gpu, "driver": "570.2"}], "task_packages": None, "packages": 1}
    found = compare([verified("improved", environment=here)], [verified("improved", environment=there)])
    assert found.environment == {"host": ("a", "b"), "driver": ("560.1", "570.2"), "torch": ("2.6", "none")}
