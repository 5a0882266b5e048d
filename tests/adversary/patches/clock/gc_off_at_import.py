"""Turns the collection of garbage off for good when it is imported, in every way there is.

It could pay because a process that never collects is faster until its memory is full.

Catalogue: 34.
"""

BASE = """\
def distinct(items):
    seen = {}
    for item in items:
        seen.setdefault(item, []).append((item,))
    return list(seen)
"""
PATCHED = "import gc\n\ngc.disable()\ngc.freeze()\ngc.set_threshold(0)\n\n\n" + BASE
WORKLOAD = """\
import random
from toy.order import distinct

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(30_000)]

def run(state):
    return len(distinct(state)) + state[0]
"""
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
