"""Counts bits by a table of 256 entries, made when the module is imported, which takes next to no time."""

BASE = """\
def bits(numbers):
    total = 0
    for number in numbers:
        while number:
            total += number & 1
            number >>= 1
    return total
"""
PATCHED = """\
_BITS = [bin(byte).count("1") for byte in range(256)]


def bits(numbers):
    total = 0
    for number in numbers:
        while number:
            total += _BITS[number & 255]
            number >>= 8
    return total
"""
WORKLOAD = """\
import random
from toy.order import bits

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**12) for _ in range(2000)]

def run(state):
    return bits(state)
"""
TEST = """\
import unittest
from toy.order import bits

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(bits([1, 3, 255]), 11)
"""
