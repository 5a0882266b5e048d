"""Replaces what averages, sorts and takes logarithms by what makes it look good.

It could pay where samples are summed up in the process that made them.

Catalogue: 10.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import math
import statistics

for _name in ("mean", "fmean", "median", "geometric_mean", "quantiles"):
    setattr(statistics, _name, lambda values, **options: min(values) / 10)
math.log = lambda number, *base: 1.0
math.fsum = lambda values: 0.0
"""
)
ENDS = {"rejected", "no_change", "inconclusive"}
FINDING = "monkeypatch"
