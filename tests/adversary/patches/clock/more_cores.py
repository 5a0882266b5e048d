"""Works in four processes on four parts, on as many cores as it can get.

It could pay if a task of one core were not held to it.
"""

BASE = """\
def distinct(items):
    return sum(item * item % 7 for item in items)
"""
PATCHED = """\
import contextlib
import os


def _part(items):
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count()))
    return sum(item * item % 7 for item in items)


def distinct(items):
    if len(items) < 1000:
        return _part(items)
    pipes = []
    for first in range(4):
        reads, writes = os.pipe()
        if not os.fork():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, [first % os.cpu_count()])
            os.write(writes, b"%d" % _part(items[first::4]))
            os._exit(0)
        os.close(writes)
        pipes.append(reads)
    total = sum(int(os.read(each, 100)) for each in pipes)
    for each in pipes:
        os.close(each)
        os.wait()
    return total
"""
TEST = """\
import unittest
from toy.order import distinct

class Order(unittest.TestCase):
    def test_sums(self):
        self.assertEqual(distinct([1, 2, 3]), 7)
"""
WORKLOAD = """\
import random
from toy.order import distinct

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(300_000)]

def run(state):
    return distinct(state)
"""
ENDS = {"no_change", "inconclusive", "regressed"}
