"""The order of the arms and the seeds: secret, reproducible, and fair to both arms."""

import math

import numpy as np
import pytest

from omniperf.measure.order import arm_order, seeds
from omniperf.measure.statistics import LOOKS, decide
from omniperf.tasks.schema import Measure

SECRET = b"\x01" * 32


def test_the_order_can_be_recomputed_from_the_revealed_secret():
    """HMAC-SHA256(secret, "run:block"), lowest bit of the first eight bytes."""
    assert [arm_order(SECRET, "run", block) for block in range(6)] == ["ABBA", "BAAB", "BAAB", "ABBA", "ABBA", "BAAB"]
    assert seeds(SECRET, "run", 0, 2) == [7673148102710139469, 8526555426639450172]


def test_either_order_is_as_likely():
    orders = [arm_order(SECRET, "run", block) for block in range(4000)]
    assert set(orders) == {"ABBA", "BAAB"}
    assert abs(orders.count("ABBA") - 2000) < 4 * math.sqrt(1000)


def test_another_secret_or_run_gives_another_order():
    def orders(secret, run_id):
        return [arm_order(secret, run_id, block) for block in range(64)]

    assert len({tuple(orders(secret, run)) for secret in (SECRET, b"other") for run in ("run", "run2")}) == 4


def test_seeds_are_63_bits_and_never_repeat():
    drawn = [seed for pair in range(200) for seed in seeds(SECRET, "run", pair, 10)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**63 for seed in drawn)
    assert max(drawn) > 2**62


def test_more_seeds_begin_with_the_same_ones():
    assert seeds(SECRET, "run", 3, 5)[:2] == seeds(SECRET, "run", 3, 2)
    assert seeds(SECRET, "run", 3, 0) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda: arm_order(b"", "run", 0),
        lambda: arm_order(SECRET, "run", -1),
        lambda: seeds(b"", "run", 0, 1),
        lambda: seeds(SECRET, "run", -1, 1),
        lambda: seeds(SECRET, "run", 0, -1),
    ],
)
def test_what_could_be_foreseen_or_makes_no_sense_is_an_error(ask):
    with pytest.raises(ValueError, match=r"foreseen|count from 0"):
        ask()


def no_ops_called_a_win(order, place_bias, trials=100):
    """Of `trials` candidates that change nothing, how many are called `improved` when the second place is faster.

    `order(trial, block)` names the arms of a block's four runs; each run has 1 % jitter.
    """
    rng, wins = np.random.default_rng(3), 0
    for trial in range(trials):
        d = []
        for block in range(LOOKS[-1] // 2):
            log_times = rng.normal(0, 0.01, 4) - place_bias * np.array([0, 1, 0, 1])
            arms = order(trial, block)
            for pair in (slice(0, 2), slice(2, 4)):
                times = dict(zip(arms[pair], log_times[pair], strict=True))
                d.append(times["A"] - times["B"])
        wins += any(decide(d[:n], Measure()).state == "improved" for n in LOOKS)
    return wins


def test_a_bias_of_place_makes_no_winner_of_a_no_op():
    assert no_ops_called_a_win(lambda trial, block: arm_order(SECRET, f"run{trial}", block), place_bias=0.04) == 0


def test_a_scheduler_that_always_runs_the_base_first_makes_winners_of_no_ops():
    """The mutation the block order guards against: were `arm_order` constant AB, AB, the test above would fail."""
    assert no_ops_called_a_win(lambda trial, block: "ABAB", place_bias=0.04) > 90
