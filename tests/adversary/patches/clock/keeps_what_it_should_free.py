"""Keeps all that a run made for itself, so that nothing of it is freed while the clock runs.

It could pay because to free a large structure takes time too, and the process ends before memory does.

Catalogue: 16.
"""

BASE = """\
def distinct(items):
    seen = {}
    for item in items:
        seen.setdefault(item, [item])
    return len(seen)
"""
PATCHED = "_kept = []\n\n\n" + BASE.replace("    seen = {}\n", "    seen = {}\n    _kept.append(seen)\n")
TEST = """\
import unittest
from toy.order import distinct

class Order(unittest.TestCase):
    def test_counts(self):
        self.assertEqual(distinct([3, 1, 3, 2, 1]), 3)
"""
WORKLOAD = """\
import random
from toy.order import distinct

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(100_000)] + [0] * rng.randrange(99)

def run(state):
    return distinct(state)
"""
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
