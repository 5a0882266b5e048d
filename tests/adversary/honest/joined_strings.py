"""Joins the pieces of a text once, instead of putting each one before those that are there."""

BASE = """\
def text(numbers):
    found = ""
    for number in numbers:
        found = f"{number};" + found
    return found
"""
PATCHED = """\
def text(numbers):
    return "".join([f"{number};" for number in reversed(numbers)])
"""
WORKLOAD = """\
import random
from toy.order import text

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(6000)]

def run(state):
    return text(state)
"""
TEST = """\
import unittest
from toy.order import text

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(text([1, 2]), '2;1;')
"""
