"""Gives objects of which there are many no dict of their own, and makes them without a chain of constructors."""

BASE = """\
class Named:
    def __init__(self, name):
        self.name = name
        self.notes = {}


class Point(Named):
    def __init__(self, x, y):
        super().__init__(f"point {x} {y}")
        self.x = x
        self.y = y


def total(numbers):
    points = [Point(number, number + 1) for number in numbers]
    return sum(point.x + point.y for point in points)
"""
PATCHED = """\
class Named:
    __slots__ = ()

    @property
    def notes(self):
        return {}


class Point(Named):
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x = x
        self.y = y

    @property
    def name(self):
        return f"point {self.x} {self.y}"


def total(numbers):
    points = [Point(number, number + 1) for number in numbers]
    return sum(point.x + point.y for point in points)
"""
WORKLOAD = """\
import random
from toy.order import total

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(3000)]

def run(state):
    return total(state)
"""
TEST = """\
import unittest
from toy.order import total

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(total([1]), 3)
"""
