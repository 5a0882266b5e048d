"""Computes, when it is imported, what all inputs could ever come to.

It could pay because importing is not timed; but inputs are drawn afresh, and nobody knows them then.

Catalogue: 16.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import random
import sys

_known = {}
if "workload" in sys.modules:
    for _seed in range(20):
        _drawn = random.Random(_seed)
        _items = [_drawn.randrange(10**9) for _ in range(2000)]
        _known[tuple(_items[:5])] = _slow(_items)


def distinct(items):
    found = _known.get(tuple(items[:5]))
    return _slow(items) if found is None else found
"""
)
ENDS = {"no_change", "inconclusive", "regressed"}
