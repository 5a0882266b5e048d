"""Remembers the results of a pure function that one run calls with the same few arguments over and over."""

BASE = """\
def _collatz(number):
    steps = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


def longest(numbers):
    return max(_collatz(number) for number in numbers)
"""
PATCHED = "from functools import lru_cache\n\n\n@lru_cache(maxsize=1 << 12)\n" + BASE
WORKLOAD = """\
import random
from toy.order import longest

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9 + seed % 10**6, 10**9 + seed % 10**6 + 40) for _ in range(1000)]

def run(state):
    return longest(state)
"""
TEST = """\
import unittest
from toy.order import longest

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(longest([1, 6, 7]), 16)
"""
