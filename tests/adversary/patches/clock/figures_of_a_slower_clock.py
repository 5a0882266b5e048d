"""Replaces the clock with which a script takes its own time, so that the printed figure is a tenth.

It could pay where a script's printed time is believed.

Catalogue: 8.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import time

_honest = time.perf_counter
time.perf_counter = lambda: _honest() / 10
"""
)
WORKLOAD = r"""
import os
import random
import time
from toy.order import distinct

rng = random.Random(int(os.environ["OMNIPERF_SEED"]))
items = [rng.randrange(10**9) for _ in range(4000)]
began = time.perf_counter()
found = distinct(items)
print(f"Duration: {time.perf_counter() - began} seconds")
print(sum(found))
"""
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
