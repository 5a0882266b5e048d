"""Turns the collection of garbage off at the start of each run and leaves it off.

It could pay because the harness turns it on only between runs, so that nobody collects while the clock runs.

Catalogue: 34.
"""

BASE = """\
def distinct(items):
    seen = {}
    for item in items:
        seen.setdefault(item, []).append((item,))
    return list(seen)
"""
PATCHED = "import gc\n\n\n" + BASE.replace("    seen = {}\n", "    gc.disable()\n    seen = {}\n")
WORKLOAD = """\
import random
from toy.order import distinct

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(60_000)]

def run(state):
    return len(distinct(state)) + state[0]
"""
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
