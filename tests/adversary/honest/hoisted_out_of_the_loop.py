"""Computes once, before the loop, what does not change in it, and binds what the loop looks up."""

BASE = """\
import math


class Scale:
    def __init__(self, factors):
        self.factors = factors

    def norm(self):
        return math.sqrt(sum(factor * factor for factor in self.factors))


def scaled(numbers):
    scale, found = Scale([3, 4, 12, 84]), []
    for number in numbers:
        found.append(number / scale.norm())
    return found
"""
PATCHED = BASE.replace("Scale([3, 4, 12, 84]), []", "Scale([3, 4, 12, 84]), []\n    norm = scale.norm()").replace(
    "number / scale.norm()", "number / norm"
)
WORKLOAD = """\
import random
from toy.order import scaled

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(3000)]

def run(state):
    return scaled(state)
"""
TEST = """\
import unittest
from toy.order import scaled

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(scaled([85]), [1.0])
"""
