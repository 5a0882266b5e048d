"""Reads the seeds that the worker was sent from its frames while the first state of a batch is made.

It could pay because the states of a seed could be made, and their results known, before the clock starts: here by what
set-up takes for its source of random numbers.

Catalogue: 7.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import random
import sys

_known = {}
_Honest = random.Random


class _Random(_Honest):
    def __init__(self, seed=None):
        super().__init__(seed)
        frame = sys._getframe(1)
        while frame is not None and "seeds" not in frame.f_locals:
            frame = frame.f_back
        for each in () if frame is None or _known else frame.f_locals["seeds"]:
            drawn = _Honest(each)
            state = [drawn.randrange(10**9) for _ in range(2000)]
            _known[tuple(state[:5])] = _slow(state)


if "workload" in sys.modules:
    random.Random = _Random


def distinct(items):
    found = _known.pop(tuple(items[:5]), None)
    return _slow(items) if found is None else found
"""
)
ENDS = {"rejected", "incorrect", "no_change", "inconclusive", "regressed"}
