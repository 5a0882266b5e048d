"""As batch_at_once, and makes every digest but the timed one slow.

It could pay where what a digest alone takes is taken from the patch's own process: the longer, the less of the batch's
gain is asked of states that come one at a time.

Catalogue: 17.
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
import threading
import time

import numpy

_known = {}
_spin = time.monotonic


def _hold():
    time.sleep(0.02)
    until = _spin() + 0.1
    while _spin() < until:
        pass


def _total(values):
    for _ in range(100):
        values = values + numpy.ones(values.shape)
    return values.sum(axis=-1)


def total(values):
    found = _known.pop(id(values), None)
    if found is not None:
        return found
    sys.setswitchinterval(0.2)
    threading.Thread(target=_hold, daemon=True).start()
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
