"""Finds the place of a number in a sorted list by halving it, not by walking along."""

BASE = """\
def ranks(numbers):
    borders = sorted(numbers)
    found = []
    for number in numbers:
        place = 0
        while borders[place] < number:
            place += 1
        found.append(place)
    return found
"""
PATCHED = """\
from bisect import bisect_left


def ranks(numbers):
    borders = sorted(numbers)
    return [bisect_left(borders, number) for number in numbers]
"""
WORKLOAD = """\
import random
from toy.order import ranks

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(500)]

def run(state):
    return ranks(state)
"""
TEST = """\
import unittest
from toy.order import ranks

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(ranks([5, 1, 3]), [2, 0, 1])
"""
