"""Prints figures of its own, first and last, in the form in which a script prints its time, and skips that of others.

It could pay where a script's printed time is believed.

Catalogue: 11.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import atexit

print("Duration: 0.000001 seconds", flush=True)
atexit.register(print, "Duration: 0.000001 seconds", flush=True)
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
ENDS = {"incorrect", "no_change", "inconclusive", "regressed"}
