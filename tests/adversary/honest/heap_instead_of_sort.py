"""Keeps a heap instead of sorting a list anew whenever something is added to it."""

BASE = """\
def served(jobs):
    waiting, order = [], []
    for job in jobs:
        waiting.append(job)
        waiting.sort(reverse=True)
        if len(waiting) > 300:
            order.append(waiting.pop())
    return order
"""
PATCHED = """\
import heapq


def served(jobs):
    waiting, order = [], []
    for job in jobs:
        heapq.heappush(waiting, job)
        if len(waiting) > 300:
            order.append(heapq.heappop(waiting))
    return order
"""
WORKLOAD = """\
import random
from toy.order import served

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(3000)]

def run(state):
    return served(state)
"""
TEST = """\
import unittest
from toy.order import served

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(served([2, 1]), [])
"""
