"""Is the candidate faster? Sequential inference on the log ratios of interleaved pairs.

Every function takes `d`, one number a pair: `d[j] = ln(base[j]) - ln(candidate[j])`, without unit, so that `d > 0` is a
speedup and `exp(d)` is the pair's speedup. The estimand is the median of `d`; `exp` of it is the speedup reported.

Nothing here reads a clock, draws a random number or drops an outlier: the verdict is a function of the pairs alone, and
anyone can compute it again. Swapping base and candidate negates `d` and swaps `improved` and `regressed`, exactly.

Sources: Hodges & Lehmann, Ann. Math. Stat. 34 (1963), the estimate; Wilcoxon, Biometrics Bull. 1 (1945), the
signed-rank test; Hollander, Wolfe & Chicken, *Nonparametric Statistical Methods* (3rd ed. 2014, sections 3.1 to 3.3),
Tukey's form of that test by Walsh averages and the interval it gives; Jennison & Turnbull, JRSS B 51 (1989), repeated
confidence intervals, which hold at all planned looks at once; Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987),
equivalence from two one-sided tests; Spiegelhalter, Freedman & Blackburn, Control. Clin. Trials 7 (1986), predictive
power, the futility stop; Gönen, Johnson, Lu & Westfall, Am. Stat. 59 (2005), the Bayes factor of a t-test, and Wang &
Ramdas, Seq. Anal. 44 (2025), the confidence sequence that it makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from omniperf.results.schema import Estimate, Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omniperf.tasks.schema import Measure

LOOKS = (4, 6, 9, 12, 16, 24)
"""Numbers of pairs at which the rule `looks` decides: t-tests at the first two, signed-rank tests at the rest."""

State = Literal["improved", "regressed", "no_change", "continue", "inconclusive"]

_LAST_T_LOOK = 6
_T_LOOKS = LOOKS.index(_LAST_T_LOOK) + 1
_REPORTED_CONFIDENCE = 0.95  # two-sided
_NO_CHANGE_FROM = 6  # pairs; with four, a lucky quiet spell passes for equivalence
_NO_CHANGE_CONFIDENCE = 0.90  # two-sided, so that each of Schuirmann's one-sided tests is at 5 %
_POWER = 0.80
_KAPPA = 2.5
_MAD_TO_SD = 1.4826  # a normal distribution's SD over its median absolute deviation
_LARGEST = 50.0  # no clock spans a ratio of e^50; such a value is a fault upstream
_ROUNDING = 1e-12  # of logarithms; no clock resolves as little, so pairs this near to each other are identical
_FUTILE_FROM = 9  # pairs
_FUTILE_CHANCE = 0.05  # below it, no verdict is at all likely


@dataclass(frozen=True)
class Boundaries:
    """When a look's one-sided test rejects, for one overall confidence `1 - alpha`.

    `t4` and `t6` are critical values of Student's t at four and six pairs, `signed_rank` is the largest exact p at each
    later look. Each family spends at most alpha / 2 over all its looks (a union bound, so nothing is assumed of how the
    two depend on each other). The values were calibrated by simulating normal pairs; the signed-rank family holds for
    any symmetric distribution, because its null distribution knows signs and ranks only. Spent in 20 million (t) and
    6 million (signed-rank) simulated trials: 0.0245 + 0.0244, 0.0124 + 0.0124, 0.0049 + 0.0050 and 0.0012 + 0.0012.
    """

    t4: float
    t6: float
    signed_rank: tuple[float, float, float, float]


BOUNDARIES = MappingProxyType(
    {
        0.95: Boundaries(t4=3.95, t6=3.03, signed_rank=(0.00977, 0.00977, 0.00977, 0.00977)),
        0.975: Boundaries(t4=5.15, t6=3.69, signed_rank=(0.00465, 0.00465, 0.00465, 0.00465)),
        # Nine pairs have no p below 2^-9 = 0.00195, so they get that, and the later looks what is left.
        0.99: Boundaries(t4=7.26, t6=4.69, signed_rank=(0.00196, 0.00123, 0.00168, 0.00158)),
        0.9975: Boundaries(t4=11.82, t6=6.48, signed_rank=(0.00050, 0.00050, 0.00050, 0.00050)),
    }
)
"""Calibrated boundaries by confidence; those of any other are a union bound (`boundaries`)."""


@dataclass(frozen=True)
class Decision:
    """What the pairs so far say. `continue` asks for the pairs of the next look; every other state is final.

    `futile` marks an `inconclusive` before the last look: no verdict had become at all likely there.
    """

    state: State
    estimate: Estimate
    futile: bool = False


def looks_of(measure: Measure) -> tuple[int, ...]:
    """The numbers of pairs at which a task's rule decides, in ascending order."""
    if measure.rule == "sequence":
        return tuple(range(4, measure.max_pairs + 1, 2))
    return tuple(look for look in LOOKS if look <= measure.max_pairs)


def boundaries(confidence: float) -> Boundaries:
    """The boundaries for any confidence, 0 to 1, one-sided.

    Where none were calibrated, each t look spends alpha / 4 and each signed-rank look alpha / 8: a union bound over all
    six, which needs no simulation and wastes a little.
    """
    if confidence in BOUNDARIES:
        return BOUNDARIES[confidence]
    alpha = 1 - confidence
    t4, t6 = (_t_quantile(1 - alpha / 2, pairs - 1) for pairs in (4, 6))  # two-sided, so alpha / 4 above
    return Boundaries(t4, t6, (alpha / 8, alpha / 8, alpha / 8, alpha / 8))


def walsh_averages(d: Sequence[float]) -> list[float]:
    """All `n (n + 1) / 2` means `(d[i] + d[j]) / 2`, `i <= j`, in ascending order.

    Raises `ValueError` where `d` is empty or holds anything but finite log ratios.
    """
    pairs = _checked(d)
    return sorted((a + b) / 2 for i, a in enumerate(pairs) for b in pairs[i:])


def hodges_lehmann(d: Sequence[float]) -> float:
    """The median of the Walsh averages (Hodges & Lehmann 1963): a centre that 29 % outliers cannot carry away.

    Raises `ValueError` where `d` is empty or holds anything but finite log ratios.
    """
    return _median(walsh_averages(d))


def signed_rank_p(d: Sequence[float]) -> float:
    """Exact one-sided p of Wilcoxon's signed-rank test of `median <= 0` against `median > 0`.

    The statistic is the number of Walsh averages above zero, which is the sum of the positive ranks when no value is
    zero and no two have the same magnitude (Tukey). Written so, zeros and ties count against the effect: a zero ranks
    as a tiny loss, and of a gain and a loss of the same size the loss ranks higher, so the p is at least that of any
    way of breaking the ties. Identical values give 1: they show no noise to test against.

    Raises `ValueError` where `d` is empty or holds anything but finite log ratios.
    """
    averages = walsh_averages(d)
    if averages[0] == averages[-1]:
        return 1.0
    # The null distribution is symmetric: as many averages above zero have the p of as few at or below it.
    return _signed_rank_cdf(len(d))[sum(average <= 0 for average in averages)]


def hl_interval(d: Sequence[float], confidence: float) -> tuple[float, float]:
    """The two-sided interval for the median of `d` at one `confidence`, 0 to 1, as log ratios, with no regard to looks.

    From seven pairs on: the order statistics of the Walsh averages at the exact signed-rank quantiles, which turn the
    test inside out (Hollander, Wolfe & Chicken, section 3.3). Up to six: Student's t, since so few pairs have so few
    signed ranks that the usual levels do not exist (four pairs give at most 87.5 %) and since the looks there are
    t-tests too. `(-inf, inf)` where there are too few pairs for the level.

    Raises `ValueError` where `d` is empty or holds anything but finite log ratios, or `confidence` is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    pairs = _checked(d)
    if len(pairs) == 1:
        return -math.inf, math.inf
    if len(pairs) <= _LAST_T_LOOK:
        return _t_bounds(pairs, _t_quantile(confidence, len(pairs) - 1))
    return _signed_rank_bounds(pairs, (1 - confidence) / 2)


def decide(
    d: Sequence[float],
    measure: Measure,
    looks: Sequence[int] | None = None,
    *,
    counter: bool = False,
    claims: int = 1,
    floor: float = 0.0,
) -> Decision:
    """The verdict at a planned look, from all the pairs measured so far.

    `d` has as many pairs as one of `looks`, which are those of `measure` or a part of them (a shorter plan only spends
    less alpha). A caller that must stop between looks treats `continue` as `inconclusive`. `counter` says that the
    metric counts (memory) rather than clocks, so that identical pairs are the rule and not the mark of a stuck or a
    faked clock. `claims` is how many claims share alpha (the attempts of a run on one task): each is made at
    `1 - alpha / claims` (Bonferroni). `floor` is the calibrated noise floor, a ratio minus one: nothing under it is
    claimed, so the margin below is the larger of it and `measure.margin`.

    - `improved`: the claim's lower bound is above `ln(1 + margin)`, that is, this look's test rejects
      "at most the margin"; `regressed` is its mirror image, the upper bound below `-ln(1 + margin)`.
    - `no_change`: from six pairs on, the 90 % interval lies inside `+-ln(1 + min_effect)` (Schuirmann 1987). Under
      `looks` it is that of a fixed number of pairs; under `sequence`, whose looks are many, the sequence at 90 %.
    - `inconclusive`: none of these at the last look, or none of them at all likely there (`futile`); `continue`: none
      of these before it.

    Stopping early without a claim costs no alpha. The rule `looks` tests by t at four and six pairs and by signed ranks
    later; `sequence` puts the t-mixture confidence sequence around the mean, which holds at all numbers of pairs at
    once, for normal `d`.

    Identical pairs never win or lose: without spread there is no noise to compare with. Those of a counter may, at the
    signed-rank looks, which need only the signs.

    Raises `ValueError` where `d` holds anything but finite log ratios, its length is no planned look, a look of the
    rule `looks` has no boundary, `claims` is below 1, or `floor` is negative or not finite.
    """
    pairs = _checked(d)
    looks = looks_of(measure) if looks is None else looks
    if measure.rule == "looks" and not set(looks) <= set(LOOKS):
        raise ValueError(f"looks {tuple(looks)} must be among {LOOKS}: only those have calibrated boundaries")
    if len(pairs) not in looks:
        raise ValueError(f"{len(pairs)} pairs are no planned look; decide at {tuple(looks)}")
    if claims < 1:
        raise ValueError(f"at least one claim shares alpha, not {claims}")
    if not 0 <= floor < math.inf:
        raise ValueError(f"the noise floor must be a finite ratio minus one, at least 0, not {floor}")
    confidence = round(1 - (1 - measure.confidence) / claims, 12)
    margin, min_effect = math.log1p(max(measure.margin, floor)), math.log1p(measure.min_effect)
    low, high = _repeated_bounds(pairs, measure, confidence, counter)
    state: State
    futile = False
    if low > margin:
        state = "improved"
    elif high < -margin:
        state = "regressed"
    elif len(pairs) >= _NO_CHANGE_FROM and _inside(_no_change_interval(pairs, measure), min_effect):
        state = "no_change"
    else:
        last = max(looks)
        futile = _FUTILE_FROM <= len(pairs) < last and (
            _chance_at_last(pairs, last, measure, confidence, margin) < _FUTILE_CHANCE
        )
        state = "inconclusive" if futile or len(pairs) == last else "continue"
    return Decision(state, _estimate(pairs, (low, high), measure, confidence, margin, counter), futile)


def robust_sd(d: Sequence[float]) -> float:
    """The SD of one pair: 1.4826 times the median absolute deviation from the median, so that outliers count little.

    Raises `ValueError` where `d` is empty or holds anything but finite log ratios.
    """
    pairs = _checked(d)
    centre = _median(pairs)
    return _MAD_TO_SD * _median([abs(value - centre) for value in pairs])


def guard_held(d: Sequence[float], guard: float) -> bool:
    """Whether a guarded metric got no worse than the ratio `guard` (1.05: 5 % worse), by its Hodges-Lehmann estimate.

    The estimate, and not a bound, decides. A lower bound would fail every guard whose noise is wider than its slack,
    blaming the patch for the host; an upper bound would let a real loss pass for as long as it is uncertain. At the
    limit itself the guard holds.

    Raises `ValueError` where `d` is empty or holds anything but finite log ratios, or `guard` is below 1 or not finite:
    a guard that cannot be checked has not held.
    """
    if not 1 <= guard < math.inf:
        raise ValueError(f"guard must be a finite ratio of at least 1, not {guard}")
    return hodges_lehmann(d) >= -math.log(guard)


def _checked(d: Sequence[float]) -> tuple[float, ...]:
    """The pairs as floats, refused unless they can be log ratios of two measured values."""
    pairs = tuple(float(value) for value in d)
    if not pairs:
        raise ValueError("there are no pairs to judge")
    for value in pairs:
        if not abs(value) <= _LARGEST:  # so that NaN fails too
            raise ValueError(f"{value} is no log ratio of two measured values; discard the pair and measure it again")
    return pairs


def _inside(interval: tuple[float, float], limit: float) -> bool:
    return -limit < interval[0] and interval[1] < limit


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _identical(pairs: tuple[float, ...]) -> bool:
    return max(pairs) - min(pairs) <= _ROUNDING


def _repeated_bounds(
    pairs: tuple[float, ...], measure: Measure, confidence: float, counter: bool
) -> tuple[float, float]:
    """The bounds, as log ratios, one-sided at `confidence` each, that hold at all looks at once; infinite if none."""
    n = len(pairs)
    by_ranks = measure.rule == "looks" and n > _LAST_T_LOOK
    if _identical(pairs) and not (by_ranks and counter):
        return -math.inf, math.inf
    if measure.rule == "sequence":
        return _t_bounds(pairs, _sequence_critical(n, 1 - confidence))
    at = boundaries(confidence)
    if not by_ranks:
        return _t_bounds(pairs, at.t4 if n == LOOKS[0] else at.t6)
    bounds = _signed_rank_bounds(pairs, at.signed_rank[LOOKS.index(n) - _T_LOOKS])
    if math.isinf(bounds[0]):
        # Nine pairs have no p below 2^-9. The bounds of all looks hold at once, so the last t look's stand.
        return _repeated_bounds(pairs[:_LAST_T_LOOK], measure, confidence, counter)
    return bounds


def _no_change_interval(pairs: tuple[float, ...], measure: Measure) -> tuple[float, float]:
    """The 90 % interval that has to lie within `min_effect`."""
    if measure.rule == "sequence":
        return _t_bounds(pairs, _sequence_critical(len(pairs), (1 - _NO_CHANGE_CONFIDENCE) / 2))
    return hl_interval(pairs, _NO_CHANGE_CONFIDENCE)


def _chance_at_last(pairs: tuple[float, ...], last: int, measure: Measure, confidence: float, margin: float) -> float:
    """The predictive probability, 0 to 1, that the look after `last` pairs is `improved`, `regressed` or `no_change`.

    With the estimate `e` of `n` pairs and the SD `s` of one, that of `N` is predicted to be normal around `e` with the
    variance `s^2 (1 / n - 1 / N)` (Spiegelhalter et al. 1986, flat prior), and its standard error to be `s / sqrt(N)`.
    `s` is the robust noise: outliers widen an interval of few pairs by far more than one of many, so projecting the
    interval would give up too early. 1 without noise, which predicts nothing.
    """
    n, noise = len(pairs), robust_sd(pairs)
    if noise <= _ROUNDING:
        return 1.0
    tail = (1 - _NO_CHANGE_CONFIDENCE) / 2
    if measure.rule == "sequence":
        claim, equal = _sequence_critical(last, 1 - confidence), _sequence_critical(last, tail)
    else:
        claim = _normal_quantile(1 - boundaries(confidence).signed_rank[LOOKS.index(last) - _T_LOOKS])
        equal = _normal_quantile(1 - tail)
    away = abs(hodges_lehmann(pairs))
    error, scale = noise / math.sqrt(last), noise * math.sqrt(2 * (1 / n - 1 / last))
    beyond = margin + claim * error
    inside = max(0.0, math.log1p(measure.min_effect) - equal * error)
    claimed = math.erfc((beyond - away) / scale) + math.erfc((beyond + away) / scale)
    unchanged = math.erf((inside - away) / scale) + math.erf((inside + away) / scale)
    return (claimed + unchanged) / 2


def _sequence_critical(n: int, alpha: float) -> float:
    """How many standard errors the t-mixture confidence sequence reaches from the mean of `n` pairs, on each side.

    It inverts the Bayes factor of a t-test with a standard normal prior on the effect in SDs (Gönen et al. 2005, with
    `g` = 1 and `v = n - 1`), `(1 + n)^(-1/2) ((1 + t^2 / v) / (1 + t^2 / (v (1 + n))))^(n / 2)`, which for normal pairs
    is a martingale under the null, whatever their SD: it ever reaches `1 / (2 alpha)` with probability 2 alpha at most
    (Ville), half of it on each side. `inf` while `n` is too small for the level.
    """
    ratio = ((1 + n) / (2 * alpha) ** 2) ** (1 / n)
    return math.sqrt((n - 1) * (ratio - 1) / (1 - ratio / (1 + n))) if ratio < 1 + n else math.inf


def _t_bounds(pairs: tuple[float, ...], critical: float) -> tuple[float, float]:
    """Mean plus and minus `critical` standard errors."""
    if math.isinf(critical):
        return -math.inf, math.inf
    n = len(pairs)
    mean = math.fsum(pairs) / n
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in pairs) / (n - 1) / n)
    return mean - critical * error, mean + critical * error


def _signed_rank_bounds(pairs: tuple[float, ...], p: float) -> tuple[float, float]:
    """The Walsh averages between which lie the medians that neither one-sided signed-rank test at level `p` rejects."""
    depth = sum(tail <= p for tail in _signed_rank_cdf(len(pairs)))
    if depth == 0:
        return -math.inf, math.inf
    averages = walsh_averages(pairs)
    return averages[depth - 1], averages[-depth]


def _estimate(
    pairs: tuple[float, ...],
    claim: tuple[float, float],
    measure: Measure,
    confidence: float,
    margin: float,
    counter: bool,
) -> Estimate:
    """The speedup with its intervals; `minimum_detectable_effect` is what `len(pairs)` pairs of this noise can show.

    `(1 + margin) exp((z[confidence] + z[power]) noise sqrt(kappa / n)) - 1`: the sample size formula of the one-sided
    z-test for one mean, solved for the effect, at 80 % power. `kappa` (1 in the textbook) is 2.5 here, calibrated by
    simulation: what the looks, the split of alpha, the ranks and the outliers cost.
    """
    noise = robust_sd(pairs)
    reach = _normal_quantile(confidence) + _normal_quantile(_POWER)
    # A counter that says the same every time is exact, and its interval a point.
    low, high = (
        (pairs[0], pairs[0])
        if counter and _identical(pairs)
        else _repeated_bounds(pairs, measure, (1 + _REPORTED_CONFIDENCE) / 2, counter)
    )
    return Estimate(
        speedup=math.exp(hodges_lehmann(pairs)),
        interval=Interval(low=math.exp(low), high=math.exp(high), confidence=_REPORTED_CONFIDENCE),
        claim=Interval(low=math.exp(claim[0]), high=math.exp(claim[1]), confidence=confidence),
        pairs=len(pairs),
        noise=noise,
        minimum_detectable_effect=math.exp(margin + reach * noise * math.sqrt(_KAPPA / len(pairs))) - 1,
    )


@lru_cache
def _signed_rank_cdf(n: int) -> tuple[float, ...]:
    """`P(W <= w)` for `w` = 0 to `n (n + 1) / 2`, where `W` sums each of the ranks 1 to `n` with probability a half."""
    ways = [1]
    for rank in range(1, n + 1):
        none = [0] * rank
        ways = [without + included for without, included in zip(ways + none, none + ways, strict=True)]
    below, cdf = 0, []
    for count in ways:
        below += count
        cdf.append(below / 2**n)
    return tuple(cdf)


@lru_cache
def _t_quantile(inside: float, df: int) -> float:
    """The `t` with `P(|T| <= t) = inside`, from the finite sums of Abramowitz & Stegun (1964), 26.7.3 and 26.7.4."""

    def probability(angle: float) -> float:  # that |T| <= sqrt(df) tan(angle)
        total, term = 0.0, math.cos(angle) if df % 2 else 1.0
        for power in range(df % 2, df - 1, 2):
            total += term
            term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
        return 2 / math.pi * (angle + math.sin(angle) * total) if df % 2 else math.sin(angle) * total

    return math.sqrt(df) * math.tan(_solve(probability, inside, math.pi / 2))


@lru_cache
def _normal_quantile(below: float) -> float:
    """The `z` with `P(Z <= z) = below`, for `below` of at least a half."""
    return _solve(lambda z: (1 + math.erf(z / math.sqrt(2))) / 2, below, 8.0)


def _solve(rising: Callable[[float], float], target: float, high: float) -> float:
    """Where a function that rises over 0 to `high` reaches `target`, by bisection to the last bits of a float."""
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return high
