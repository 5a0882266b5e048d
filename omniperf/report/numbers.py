"""Numbers as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omniperf.results.schema import Estimate, Interval

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def quantity(value: float, unit: str) -> str:
    """Return a measured value with its unit; seconds become ms or µs where that reads better."""
    if unit == "s":
        scale, unit = next(((scale, name) for scale, name in _TIMES if abs(value) >= scale), _TIMES[-1])
        value /= scale
    return f"{_significant(value)} {unit}"


def duration(seconds: float) -> str:
    """Return a time that somebody waited: 0.8 s, 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10 or not math.isfinite(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def dollars(usd: float) -> str:
    """Return a cost: $1.25, and $0.0043 of what is less than ten cents, since nothing that was paid was free."""
    return f"${usd:.2g}" if 0 < usd < 0.1 else f"${usd:.2f}"


def ratio(value: float) -> str:
    """Return a speedup such as 1.042x, with the digits that can matter."""
    return f"{value:.3f}x" if value < 10 else f"{value:.1f}x"


def interval(estimate: Interval) -> str:
    """Return the ends of an interval of speedups."""
    return f"{ratio(estimate.low).removesuffix('x')} to {ratio(estimate.high).removesuffix('x')}"


def with_interval(estimate: Estimate) -> str:
    """Return a speedup with its interval and the confidence of that."""
    return f"{ratio(estimate.speedup)} ({estimate.interval.confidence * 100:g} %: {interval(estimate.interval)})"


def plus_minus(estimate: Estimate) -> str:
    """Return a speedup with half the width of its interval: 1.74x ±0.02."""
    digits = 2 if estimate.speedup < 10 else 1 if estimate.speedup < 100 else 0
    half = (estimate.interval.high - estimate.interval.low) / 2
    return f"{estimate.speedup:.{digits}f}x ±{half:.{digits}f}"


def percent(share: float) -> str:
    """Return a small ratio minus one, such as 0.012, as 1.2 %."""
    return f"{share * 100:.2g} %" if abs(share) < 0.1 else f"{share * 100:.0f} %"


def count(number: int, singular: str, plural: str = "") -> str:
    """Return `1 file`, `2 files`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def _significant(value: float) -> str:
    """Four significant digits, without an exponent for anything a person would measure."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 3 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 4
    return f"{value:.{digits}f}"
