"""Finds all states of a batch through the worker's frames, computes them together in the first call, and remembers.

It could pay because a library such as numpy does many small things at once much faster than one by one, and a batch is
timed as a whole: what a caller with one state at hand would wait for has not become faster.

Catalogue: 7, 17.
"""

TEST = """\
import unittest
import numpy
from toy.order import total

class Total(unittest.TestCase):
    def test_total(self):
        self.assertEqual(total(numpy.ones(3)), 303.0)
"""
BASE = """\
import numpy


def total(values):
    for _ in range(100):
        values = values + numpy.ones(values.shape)
    return float(values.sum())
"""
PATCHED = """\
import sys

import numpy

_known = {}


def _total(values):
    for _ in range(100):
        values = values + numpy.ones(values.shape)
    return values.sum(axis=-1)


def total(values):
    found = _known.pop(id(values), None)
    if found is not None:
        return found
    worker = sys._getframe(2).f_locals.get("self")
    states = getattr(worker, "spent", None) or [values]
    _known.update(zip(map(id, states), map(float, _total(numpy.stack(states)))))
    return _known.pop(id(values))
"""
WORKLOAD = """\
import numpy
from toy.order import total

def setup(seed):
    return numpy.random.default_rng(seed).integers(0, 1000, 32).astype(float)

def run(state):
    return total(state)
"""
NEEDS = ["numpy"]
ENDS = {"rejected", "inconclusive", "incorrect"}
