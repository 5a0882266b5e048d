"""When pairs of measurements make a verdict, and when they must not."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omniperf.measure.clock import Sample
from omniperf.measure.order import arm_order
from omniperf.measure.pairs import Pairs
from omniperf.measure.statistics import (
    BOUNDARIES,
    LOOKS,
    boundaries,
    decide,
    guard_held,
    hl_interval,
    hodges_lehmann,
    looks_of,
    signed_rank_p,
    walsh_averages,
)
from omniperf.tasks.schema import Measure, Metric

AA_TRACE = Path(__file__).with_name("aa_trace.txt")
"""Microseconds that 1,200 fresh processes in a row took for the same work, on a busy two-core host."""

DEFAULT = Measure()
CONFIDENCES = (0.95, 0.99, 0.9975)
MIRROR = {"improved": "regressed", "regressed": "improved"}

# Thousandths keep sums and halves of two values clear of rounding, so that "equal" in a property means equal.
thousandths = st.integers(-400, 400).map(lambda k: k / 1024)
measures = st.builds(
    Measure,
    confidence=st.sampled_from(CONFIDENCES),
    margin=st.sampled_from([0.0, 0.01]),
    min_effect=st.sampled_from([0.03, 0.1]),
    rule=st.sampled_from(["looks", "sequence"]),
)


def pairs_at_a_look(measure):
    return st.sampled_from(looks_of(measure)).flatmap(lambda n: st.lists(thousandths, min_size=n, max_size=n))


def spread(n: int, centre: float, sd: float) -> list[float]:
    """`n` unequal values, symmetric about `centre`."""
    steps = np.linspace(-1, 1, n)
    return list(centre + sd * steps / steps.std(ddof=1))


# The estimate


def test_walsh_averages_are_the_sorted_means_of_all_pairs_with_themselves():
    assert walsh_averages([3.0, 1.0, 2.0]) == [1.0, 1.5, 2.0, 2.0, 2.5, 3.0]
    assert len(walsh_averages([0.0] * 24)) == 300


def test_the_estimate_is_the_median_walsh_average():
    assert hodges_lehmann([1.0, 5.0, 3.0]) == 3.0
    assert hodges_lehmann([0.25]) == 0.25
    assert hodges_lehmann([0.0, 1.0, 2.0, 50.0]) == 1.75  # 0 0.5 1 1 1.5 | 2 25 25.5 26 50


@given(st.lists(thousandths, min_size=1, max_size=24))
def test_the_estimate_scales_shifts_and_mirrors_with_the_data(d):
    estimate = hodges_lehmann(d)
    assert hodges_lehmann([4 * x for x in d]) == 4 * estimate
    assert hodges_lehmann([x + 0.5 for x in d]) == estimate + 0.5
    assert hodges_lehmann([-x for x in d]) == -estimate


def test_two_wild_outliers_in_24_pairs_do_not_undo_a_win():
    d = [*spread(22, 0.08, 0.01), -1.0, -2.0]
    decision = decide(d, DEFAULT)
    assert decision.state == "improved"
    assert 1.05 < decision.estimate.speedup < 1.10


# The test


def brute_force_p(d):
    """P(sum of positive ranks >= observed) over all sign flips."""
    ranks = np.argsort(np.argsort(np.abs(d))) + 1
    observed = sum(rank for rank, x in zip(ranks, d, strict=True) if x > 0)
    flips = [sum(itertools.compress(ranks, signs)) for signs in itertools.product([0, 1], repeat=len(d))]
    return sum(flip >= observed for flip in flips) / len(flips)


@given(st.integers(2, 9).flatmap(lambda n: st.permutations(range(1, n + 1))), st.data())
def test_signed_rank_p_is_exact(ranks, data):
    d = [data.draw(st.sampled_from([-1, 1])) * rank / 64 for rank in ranks]
    assert signed_rank_p(d) == brute_force_p(d)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12), st.permutations(range(-12, 13)))
def test_no_way_of_breaking_zeros_and_ties_gives_a_larger_p(values, nudges):
    nudged = [x + nudge / 1000 for x, nudge in zip(values, nudges, strict=False)]
    assert signed_rank_p(values) >= signed_rank_p(nudged)


@given(st.lists(thousandths, min_size=2, max_size=24))
def test_signed_rank_p_does_not_depend_on_scale_or_order(d):
    assert signed_rank_p([8 * x for x in d]) == signed_rank_p(d) == signed_rank_p(sorted(d))


@given(st.lists(thousandths, min_size=2, max_size=24), st.data(), st.integers(1, 400))
def test_a_larger_speedup_is_never_weaker_evidence(d, data, raised_by):
    index = data.draw(st.integers(0, len(d) - 1))
    raised = [x + raised_by / 1024 if i == index else x for i, x in enumerate(d)]
    assume(min(raised) < max(raised))
    assert signed_rank_p(raised) <= signed_rank_p(d)
    assert hodges_lehmann(raised) >= hodges_lehmann(d)


@pytest.mark.parametrize("n", [1, 2, 9, 24])
@pytest.mark.parametrize("value", [0.0, 0.5, -0.5])
def test_identical_values_are_never_significant(n, value):
    assert signed_rank_p([value] * n) == 1.0


# Intervals


def test_the_interval_of_ten_pairs_is_the_tabled_one():
    """n = 10: P(W <= 8) = 0.0244, so 95.1 % between the 9th smallest and the 9th largest of 55 averages."""
    d = [0.1, 0.4, 0.2, 0.9, 0.7, 0.3, 1.1, 0.5, 0.8, 1.3]
    averages = walsh_averages(d)
    assert hl_interval(d, 0.95) == (averages[8], averages[-9])


def test_the_interval_of_a_few_pairs_is_students():
    """t(0.975, 3 degrees of freedom) = 3.1824."""
    low, high = hl_interval([1.0, 2.0, 3.0, 4.0], 0.95)
    half = 3.182446 * math.sqrt(5 / 3 / 4)
    assert (low, high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-5)


@pytest.mark.parametrize(("pairs", "confidence"), [([0.1], 0.5), ([0.1 * k for k in range(9)], 0.999)])
def test_too_few_pairs_for_the_level_bound_nothing(pairs, confidence):
    assert hl_interval(pairs, confidence) == (-math.inf, math.inf)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, math.nan])
def test_a_confidence_outside_0_to_1_is_an_error(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        hl_interval([0.1, 0.2], confidence)


@given(st.lists(thousandths, min_size=2, max_size=24))
def test_intervals_hold_the_estimate_nest_and_mirror(d):
    inner, outer = hl_interval(d, 0.90), hl_interval(d, 0.95)
    slack = 1e-12
    assert outer[0] - slack <= inner[0] - slack <= hodges_lehmann(d) <= inner[1] + slack <= outer[1] + slack
    low, high = hl_interval([-x for x in d], 0.95)
    assert (-high, -low) == outer


# The verdict


@given(measures.flatmap(lambda m: st.tuples(st.just(m), pairs_at_a_look(m))), st.booleans(), st.integers(1, 20))
def test_swapping_the_arms_swaps_the_verdict(asked, counter, claims):
    measure, d = asked
    there = decide(d, measure, counter=counter, claims=claims)
    back = decide([-x for x in d], measure, counter=counter, claims=claims)
    assert (back.state, back.futile) == (MIRROR.get(there.state, there.state), there.futile)
    for one, other in ((there.estimate.interval, back.estimate.interval), (there.estimate.claim, back.estimate.claim)):
        assert (other.low, other.high) == pytest.approx((1 / one.high, 1 / one.low if one.low else math.inf))
    assert back.estimate.speedup == pytest.approx(1 / there.estimate.speedup)
    assert back.estimate.noise == there.estimate.noise


@given(measures.flatmap(lambda m: st.tuples(st.just(m), pairs_at_a_look(m))))
def test_a_claim_is_exactly_a_bound_beyond_the_margin(asked):
    measure, d = asked
    decision = decide(d, measure)
    claim = decision.estimate.claim
    assert (decision.state == "improved") == (math.log(claim.low or 5e-324) > math.log1p(measure.margin))
    assert (decision.state == "regressed") == (math.log(claim.high) < -math.log1p(measure.margin))


@given(st.sampled_from([12, 16, 24]), st.integers(0, 10**6), st.sampled_from(CONFIDENCES))
def test_from_twelve_pairs_a_win_is_a_rejection_of_the_margin_by_the_signed_rank_test(n, seed, confidence):
    d = list(np.random.default_rng(seed).normal(0.04, 0.04, n))
    over_margin = [x - math.log1p(0.01) for x in d]
    won = decide(d, Measure(confidence=confidence)).state == "improved"
    assert won == (signed_rank_p(over_margin) <= BOUNDARIES[confidence].signed_rank[LOOKS.index(n) - 2])


@given(st.sampled_from([12, 16, 24]), st.data(), measures.filter(lambda measure: measure.rule == "looks"))
def test_raising_a_pair_never_undoes_a_win(n, data, measure):
    d = data.draw(st.lists(st.integers(0, 400).map(lambda k: k / 1024), min_size=n, max_size=n))
    assume(decide(d, measure).state == "improved")
    raised = list(d)
    raised[data.draw(st.integers(0, n - 1))] += data.draw(st.integers(0, 400)) / 1024
    assume(min(raised) < max(raised))
    assert decide(raised, measure).state == "improved"


@pytest.mark.parametrize("n", LOOKS)
def test_a_large_steady_speedup_wins_at_every_look(n):
    decision = decide(spread(n, math.log(2), 0.02), DEFAULT)
    assert decision.state == "improved"
    assert decision.estimate.pairs == n
    assert decision.estimate.speedup == pytest.approx(2.0)
    assert decision.estimate.interval.confidence == 0.95
    assert decision.estimate.claim.confidence == 0.99
    assert 1.01 < decision.estimate.claim.low < decision.estimate.interval.low < 2.0


def test_an_effect_within_the_margin_is_neither_win_nor_loss():
    assert decide(spread(24, math.log1p(0.009), 0.001), DEFAULT).state == "no_change"
    assert decide(spread(24, -math.log1p(0.009), 0.001), DEFAULT).state == "no_change"
    assert decide(spread(24, math.log1p(0.02), 0.001), DEFAULT).state == "improved"
    assert decide(spread(24, -math.log1p(0.02), 0.001), DEFAULT).state == "regressed"


def test_no_change_takes_six_pairs():
    assert decide(spread(4, 0.0, 0.002), DEFAULT).state == "continue"
    assert decide(spread(6, 0.0, 0.002), DEFAULT).state == "no_change"


def test_a_hopeless_win_goes_on_while_a_loss_is_possible():
    d = spread(12, -0.02, 0.025)
    low, high = hl_interval(d, 0.80)
    assert low < -math.log(1.03) < high < math.log(1.03)
    assert decide(d, DEFAULT).state == "continue"


def test_noise_too_wide_for_any_answer_ends_inconclusive_at_the_last_look_and_says_what_it_could_see():
    decision = decide(spread(24, 0.02, 0.2), DEFAULT)
    assert decision.state == "inconclusive"
    assert decision.estimate.minimum_detectable_effect > 0.1
    assert not decision.futile


def test_a_shorter_plan_ends_at_its_own_last_look():
    assert decide(spread(6, 0.02, 0.2), DEFAULT, looks=(4, 6)).state == "inconclusive"


def test_nine_pairs_win_at_099_by_ranks_only_if_all_nine_exceed_the_margin():
    d = [0.011, 0.3, 0.02, 0.5, 0.04, 0.06, 0.1, 0.2, 0.25]
    assert decide(d, DEFAULT).state == "improved"
    assert decide([0.009, *d[1:]], DEFAULT).state == "continue"


def test_nine_pairs_cannot_reach_09975_by_ranks_so_the_claim_of_the_first_six_stands():
    d, surer = [*spread(6, 0.05, 0.03), 0.04, 0.05, 0.06], Measure(confidence=0.9975)
    assert decide(d, surer).estimate.claim == decide(d[:6], surer).estimate.claim


# Claims that share alpha, and the noise floor


@pytest.mark.parametrize("n", LOOKS)
def test_four_claims_at_099_are_each_made_at_09975(n):
    d = spread(n, 0.05, 0.02)
    assert decide(d, DEFAULT, claims=4).estimate == decide(d, Measure(confidence=0.9975)).estimate
    assert decide(d, DEFAULT, claims=4).estimate.claim.confidence == 0.9975
    assert decide(d, DEFAULT, claims=4).estimate.interval == decide(d, DEFAULT).estimate.interval


def test_a_confidence_that_was_not_calibrated_has_a_union_bound():
    """alpha = 0.004: Student's upper 0.1 % points are 10.2145 (3 degrees of freedom) and 5.8934 (5), as tabled."""
    at = boundaries(0.996)
    assert (at.t4, at.t6) == pytest.approx((10.2145, 5.8934), abs=1e-4)
    assert at.signed_rank == pytest.approx((0.0005,) * 4)


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_the_union_bound_is_never_looser_than_the_calibrated_boundary_family(confidence):
    """Else the calibration would be in doubt: simulated boundaries only take back what a union bound wastes."""
    union, table = boundaries(confidence - 1e-9), BOUNDARIES[confidence]
    assert union.t4 > table.t4
    assert union.t6 > table.t6
    assert sum(union.signed_rank) < sum(table.signed_rank)


@pytest.mark.parametrize("n", LOOKS)
def test_nothing_under_the_noise_floor_is_claimed(n):
    d = spread(n, math.log1p(0.05), 0.002)
    assert decide(d, DEFAULT, floor=0.02).state == "improved"
    assert decide(d, DEFAULT, floor=0.06).state in ("continue", "inconclusive")
    assert decide([-x for x in d], DEFAULT, floor=0.02).state == "regressed"
    assert decide(d, DEFAULT, floor=0.005) == decide(d, DEFAULT)  # the margin is larger
    seen = [decide(d, DEFAULT, floor=floor).estimate.minimum_detectable_effect for floor in (0.0, 0.02)]
    assert 0.01 < seen[0] < 0.02 < seen[1]


@pytest.mark.parametrize("wrong", [{"claims": 0}, {"floor": -0.01}, {"floor": math.nan}, {"floor": math.inf}])
def test_a_floor_or_number_of_claims_that_makes_no_sense_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"claim|floor"):
        decide(spread(6, 0.5, 0.01), DEFAULT, **wrong)


# Futility


def test_noise_that_no_verdict_can_come_of_stops_early():
    for n in (9, 12, 16):
        decision = decide(spread(n, 0.02, 0.2), DEFAULT)
        assert (decision.state, decision.futile) == ("inconclusive", True)
    assert decide(spread(6, 0.02, 0.2), DEFAULT).state == "continue"


@pytest.mark.parametrize(
    ("centre", "sd"),
    [(0.05, 0.033), (-0.05, 0.033), (0.0, 0.05), (0.05, 0.05)],
    ids=["a win is likely", "a loss is likely", "no change is likely", "a win is possible"],
)
def test_pairs_that_may_still_decide_go_on(centre, sd):
    assert decide(spread(9, centre, sd), DEFAULT).state == "continue"


def test_futility_takes_next_to_no_power():
    """At +5 % and a pair's noise of 3 % (2 % jitter an arm), with one run in twenty an outlier."""
    rng, trials, lost, won = np.random.default_rng(4), 1000, 0, 0
    for _ in range(trials):
        slow = (rng.random((2, 24)) < 0.05) * rng.exponential(0.15, (2, 24))
        one, other = rng.normal(0, 0.02, (2, 24)) + slow
        decisions = [decide(one[:n] - other[:n] + math.log1p(0.05), DEFAULT) for n in LOOKS]
        stopped = next((k for k, decision in enumerate(decisions) if decision.futile), len(LOOKS))
        wins = [k for k, decision in enumerate(decisions) if decision.state == "improved"]
        won += bool(wins)
        lost += bool(wins) and wins[0] > stopped
    assert won > 0.8 * trials
    assert lost < 0.01 * trials


# The confidence sequence


SEQUENCE = Measure(rule="sequence", max_pairs=60)


def test_a_sequence_looks_at_every_even_number_of_pairs():
    assert looks_of(Measure(rule="sequence", max_pairs=10)) == (4, 6, 8, 10)
    assert looks_of(DEFAULT) == LOOKS
    assert looks_of(Measure(max_pairs=15)) == (4, 6, 9, 12)
    with pytest.raises(ValueError, match="rule: sequence"):
        Measure(max_pairs=30)


@pytest.mark.parametrize(("n", "multiplier"), [(4, 14.4), (6, 4.15), (8, 3.56), (12, 3.23), (24, 3.06)])
def test_the_sequence_has_the_published_multipliers_of_a_standard_error(n, multiplier):
    d = spread(n, 0.2, 0.05)
    claim = decide(d, Measure(rule="sequence", confidence=0.95)).estimate.claim
    assert math.log(claim.high / claim.low) / 2 / (0.05 / math.sqrt(n)) == pytest.approx(multiplier, abs=0.05)


@pytest.mark.parametrize("n", [6, 24, 60])
def test_the_sequence_ends_where_its_bayes_factor_rejects(n):
    """(1 + n)^-0.5 ((1 + t^2 / v) / (1 + t^2 / (v (1 + n))))^(n / 2) = 1 / (2 alpha), t in standard errors."""
    claim = decide(spread(n, 0.2, 0.05), SEQUENCE).estimate.claim
    t, v = (0.2 - math.log(claim.low)) / (0.05 / math.sqrt(n)), n - 1
    factor = (1 + n) ** -0.5 * ((1 + t * t / v) / (1 + t * t / (v * (1 + n)))) ** (n / 2)
    assert factor == pytest.approx(1 / (2 * 0.01))


def test_a_sequence_pays_for_its_many_looks_at_no_change():
    d = spread(12, 0.0, 0.04)
    assert decide(d, DEFAULT).state == "no_change"
    assert decide(d, SEQUENCE).state == "continue"
    assert decide(spread(24, 0.0, 0.04), SEQUENCE).state == "no_change"


def test_four_pairs_are_too_few_for_a_sequence_at_099():
    assert decide(spread(4, 1.0, 0.01), SEQUENCE).state == "continue"
    assert decide(spread(6, 1.0, 0.01), SEQUENCE).state == "improved"


def test_a_long_sequence_ends_inconclusive():
    assert decide(spread(60, 0.02, 0.05), SEQUENCE).state == "inconclusive"
    assert decide(spread(30, 0.02, 0.5), SEQUENCE).futile


def test_noise_and_minimum_detectable_effect_follow_their_formulas():
    """1.4826 MAD, and (1 + margin) exp((2.326 + 0.842) noise sqrt(2.5 / n)) - 1."""
    estimate = decide([0.033 / 1.4826 * (-1) ** k for k in range(24)], Measure(margin=0.0)).estimate
    assert estimate.noise == pytest.approx(0.033)
    assert estimate.minimum_detectable_effect == pytest.approx(0.0343, abs=1e-4)


# What never succeeds


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e3])
@pytest.mark.parametrize(
    "judge",
    [
        walsh_averages,
        hodges_lehmann,
        signed_rank_p,
        lambda d: hl_interval(d, 0.95),
        lambda d: decide(d, DEFAULT),
        lambda d: guard_held(d, 1.05),
    ],
)
def test_what_is_no_log_ratio_is_an_error_and_so_is_nothing(judge, bad):
    with pytest.raises(ValueError, match="no log ratio"):
        judge([0.5, 0.6, 0.7, bad])
    with pytest.raises(ValueError, match="no pairs"):
        judge([])


@given(st.data(), measures, st.booleans())
def test_no_bad_sample_becomes_a_success_or_a_loss(data, measure, counter):
    d = data.draw(pairs_at_a_look(measure))
    d[data.draw(st.integers(0, len(d) - 1))] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf, 60.0]))
    with pytest.raises(ValueError, match="no log ratio"):
        decide(d, measure, counter=counter)


@pytest.mark.parametrize("seconds", [0.0, -0.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("arm", ["base", "candidate"])
def test_times_that_no_clock_shows_have_no_verdict(arm, seconds):
    """From the samples on, as measuring does it."""
    good = Sample(0.1, 0, 0, 0, 0, 10.0, "", b"")
    pairs = Pairs(base=[good] * 4, candidate=[replace(good, seconds=0.05)] * 4)
    getattr(pairs, arm)[2] = replace(good, seconds=seconds)
    with pytest.raises(ValueError, match=r"no log ratio|math domain|positive"):
        decide(pairs.log_ratios(Metric(primary=True)), DEFAULT)


@pytest.mark.parametrize("change", [lambda arm: arm.pop(), lambda arm: arm.append(arm[0])])
def test_arms_of_unequal_length_have_no_verdict(change):
    pairs = Pairs(base=[Sample(0.1, 0, 0, 0, 0, 10.0, "", b"")] * 6)
    pairs.candidate = list(pairs.base)
    change(pairs.candidate)
    with pytest.raises(ValueError, match="zip"):
        pairs.log_ratios(Metric(primary=True))


@pytest.mark.parametrize("n", [1, 5, 8, 25])
def test_a_look_that_was_not_planned_is_an_error(n):
    with pytest.raises(ValueError, match="no planned look"):
        decide(spread(n, 0.5, 0.01) if n > 1 else [0.5], DEFAULT)


def test_a_plan_without_calibrated_boundaries_is_an_error():
    with pytest.raises(ValueError, match="calibrated"):
        decide(spread(5, 0.5, 0.01), DEFAULT, looks=(5,))


@pytest.mark.parametrize("n", LOOKS)
@pytest.mark.parametrize("value", [0.1, 0.7, -0.7])
def test_identical_pairs_neither_win_nor_lose(n, value):
    """0.1 six times: the mean is off by a bit, and the standard error is not quite zero."""
    nearly = [value, value + 1e-15] * 12
    for d in ([value] * n, nearly[:n]):
        assert decide(d, DEFAULT).state == ("inconclusive" if n == 24 else "continue")


@pytest.mark.parametrize("n", LOOKS)
def test_pairs_that_are_all_zero_are_no_change_at_most(n):
    assert decide([0.0] * n, DEFAULT).state == ("continue" if n == 4 else "no_change")
    assert decide([0.0] * 10, SEQUENCE).state == "no_change"


@pytest.mark.parametrize(("n", "win", "loss"), [(6, "continue", "continue"), (12, "improved", "regressed")])
def test_identical_counts_are_believed_once_chance_is_ruled_out(n, win, loss):
    assert decide([math.log(1.14)] * n, DEFAULT, counter=True).state == win
    assert decide([-math.log(1.14)] * n, DEFAULT, counter=True).state == loss
    interval = decide([math.log(1.14)] * n, DEFAULT, counter=True).estimate.interval
    assert interval.low == interval.high == pytest.approx(1.14)


@pytest.mark.parametrize("n", LOOKS)
def test_half_zeros_are_not_a_win(n):
    assert decide([0.0, 0.5] * (n // 2) + [0.0] * (n % 2), DEFAULT).state != "improved"


# Guards


def test_a_guard_fails_on_the_estimate_and_not_on_noise():
    assert guard_held(spread(4, -math.log(1.04), 0.5), 1.05)
    assert not guard_held(spread(4, -math.log(1.06), 0.5), 1.05)
    assert guard_held([0.0] * 4, 1.0)


@pytest.mark.parametrize("guard", [0.99, math.nan, math.inf])
def test_a_guard_that_is_no_ratio_is_an_error(guard):
    with pytest.raises(ValueError, match="guard"):
        guard_held([0.1], guard)


# The error rate


def normal(rng, n):
    return rng.normal(0, 0.03, n)


def heavy(rng, n):
    """Differences of two times with the same jitter and the same one-sided outliers: symmetric, with long tails."""
    slow = rng.random((2, n)) < 0.1
    one, other = rng.normal(0, 0.02, (2, n)) + slow * rng.exponential(0.2, (2, n))
    return one - other


@pytest.mark.parametrize("confidence", BOUNDARIES)
def test_each_family_of_calibrated_looks_spends_at_most_half_of_alpha_and_little_less(confidence):
    """Normal pairs at the null: t at 4 and 6 pairs; at 9, 12, 16 and 24 the sum of negative ranks, which fixes p."""
    at, half, trials = BOUNDARIES[confidence], (1 - confidence) / 2, 100_000
    d = np.random.default_rng(11).normal(size=(trials, 24)).astype(np.float32)
    t4, t6 = (d[:, :n].mean(1) / (d[:, :n].std(1, ddof=1) / math.sqrt(n)) for n in (4, 6))
    rejected = np.zeros(trials, bool)
    for n, level in zip(LOOKS[2:], at.signed_rank, strict=True):
        ranks = np.abs(d[:, :n]).argsort(1).argsort(1) + 1
        ways = np.ones(1)  # of making each sum of some of the ranks 1 to n
        for rank in range(1, n + 1):
            ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
        rejected |= (np.cumsum(ways) / 2**n)[(ranks * (d[:, :n] < 0)).sum(1)] <= level
    slack = 4 * math.sqrt(half / trials)
    for spent in (np.mean((t4 >= at.t4) | (t6 >= at.t6)), np.mean(rejected)):
        assert 0.9 * half - slack < spent < half + slack


@pytest.mark.parametrize("noise", [normal, heavy])
@pytest.mark.parametrize(
    ("confidence", "claims", "rule"),
    [(0.95, 1, "looks"), (0.99, 1, "looks"), (0.95, 3, "looks"), (0.95, 1, "sequence")],
)
def test_a_true_effect_of_just_the_margin_is_claimed_no_oftener_than_alpha(noise, confidence, claims, rule):
    """The hardest null there is, with every look taken, even those after a `no_change`."""
    rng, measure, trials = np.random.default_rng(20), Measure(confidence=confidence, rule=rule), 1500
    wins = 0
    for _ in range(trials):
        d = noise(rng, LOOKS[-1]) + math.log1p(measure.margin)
        wins += any(decide(d[:n], measure, claims=claims).state == "improved" for n in looks_of(measure))
    alpha = (1 - confidence) / claims
    assert wins / trials <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)
    assert wins > 0, "a rule that never claims anything would pass for the wrong reason"


@pytest.mark.parametrize("rule", ["looks", "sequence"])
def test_the_interval_holds_the_truth_at_all_looks_at_once(rule):
    """Whatever stops the measurement: 95 % is of all looks together, where a fixed interval would miss far oftener."""
    rng, measure, trials, missed, fixed = np.random.default_rng(8), Measure(rule=rule), 800, 0, 0
    for _ in range(trials):
        d = normal(rng, 24)
        intervals = [decide(d[:n], measure).estimate.interval for n in looks_of(measure)]
        missed += not all(interval.low <= 1 <= interval.high for interval in intervals)
        fixed += not all(low <= 0 <= high for low, high in (hl_interval(d[:n], 0.95) for n in LOOKS))
    assert missed / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert 0 < missed < fixed
    assert fixed / trials > 0.1


@pytest.mark.parametrize("rule", ["looks", "sequence"])
def test_an_effect_of_min_effect_is_seldom_called_no_change(rule):
    """Several looks at 5 % each: under `looks` somewhat more than 5 % in all, under `sequence` no more."""
    rng, measure, trials, false = np.random.default_rng(5), Measure(rule=rule), 800, 0
    for _ in range(trials):
        d = rng.normal(math.log1p(0.03), 0.015, 24)
        decisions = (decide(d[:n], measure) for n in looks_of(measure))
        false += next(decision.state for decision in decisions if decision.state != "continue") == "no_change"
    assert false / trials < {"looks": 0.15, "sequence": 0.05}[rule]


# A real host's noise


def replayed(order, bias=0.0, patches=1000):
    """The share of patches that change nothing and are called `improved`, of windows of a real trace.

    `order(patch, block)` names the arms of a block's four runs; the first place of a pair is slower by `bias`.
    """
    log_times = np.log(np.array(AA_TRACE.read_text().split(), float))
    rng, wins, length = np.random.default_rng(7), 0, 2 * LOOKS[-1]
    for patch in range(patches):
        start = rng.integers(0, len(log_times) - length + 1)
        first, second = (log_times[start : start + length].reshape(-1, 2) + np.array([bias, 0.0])).T
        arms = "".join(order(patch, block) for block in range(LOOKS[-1] // 2))
        d = np.where([arm == "A" for arm in arms[::2]], first - second, second - first)
        decisions = (decide(d[:n], DEFAULT) for n in LOOKS)
        wins += next(decision.state for decision in decisions if decision.state != "continue") == "improved"
    return wins / patches


def in_random_blocks(patch, block):
    return arm_order(b"secret", f"patch-{patch}", block)


def test_patches_that_change_nothing_do_not_win_on_a_real_host():
    assert replayed(in_random_blocks) <= 0.01


def test_nor_where_the_first_place_of_a_pair_is_slower():
    assert replayed(in_random_blocks, bias=0.02) <= 0.01


def test_a_scheduler_that_always_runs_the_base_first_would_be_caught_by_that():
    assert replayed(lambda patch, block: "ABAB", bias=0.02) > 0.01
