"""Stops at the first answer, with a generator that is consumed where it is made, instead of listing all of them."""

BASE = """\
def first_pairs(numbers):
    found = []
    for number in numbers:
        sums = [number + other for other in numbers]
        multiples = [each for each in sums if each % 7 == 0]
        found.append(multiples[0] if multiples else None)
    return found
"""
PATCHED = """\
def first_pairs(numbers):
    found = []
    for number in numbers:
        sums = (number + other for other in numbers)
        found.append(next((each for each in sums if each % 7 == 0), None))
    return found
"""
WORKLOAD = """\
import random
from toy.order import first_pairs

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(300)]

def run(state):
    return first_pairs(state)
"""
TEST = """\
import unittest
from toy.order import first_pairs

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(first_pairs([3, 4]), [7, 7])
"""
