"""Computes with whole arrays what a loop did element by element."""

BASE = """\
import numpy


def smooth(values):
    found = numpy.zeros(len(values) - 2)
    for index in range(len(found)):
        found[index] = (values[index] + values[index + 1] + values[index + 2]) / 3
    return found
"""
PATCHED = """\
import numpy


def smooth(values):
    return (values[:-2] + values[1:-1] + values[2:]) / 3
"""
WORKLOAD = """\
import numpy
from toy.order import smooth

def setup(seed):
    return numpy.random.default_rng(seed).random(20_000)

def run(state):
    return smooth(state)
"""
TEST = """\
import unittest
import numpy
from toy.order import smooth

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(smooth(numpy.array([1.0, 2.0, 3.0])).tolist(), [2.0])
"""
NEEDS = ["numpy"]
