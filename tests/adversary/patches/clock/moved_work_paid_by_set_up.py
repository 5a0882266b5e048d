"""Makes the standard library's random numbers faster, and spends what that saves in set-up on the results.

It could pay because set-up as a whole takes no longer, so that the work which was moved there does not show.

Catalogue: 16.
"""

BASE = """\
def distinct(items):
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen
"""
PATCHED = (
    BASE.replace("def distinct", "def _slow")
    + """

import gc
import random
import sys

_known = {}


def _quick(self, stop):
    bits, draw = stop.bit_length(), self.getrandbits
    found = draw(bits)
    while found >= stop:
        found = draw(bits)
    return found


def _prepare(phase, told):
    frame = sys._getframe(1)
    states = getattr(frame.f_locals.get("self"), "states", None) or ()
    for state in states:
        _known[id(state)] = _slow(state)


if "workload" in sys.modules:
    random.Random.randrange = _quick
    gc.callbacks.append(_prepare)


def distinct(items):
    found = _known.pop(id(items), None)
    return _slow(items) if found is None else found
"""
)
WORKLOAD = """\
import random
from toy.order import distinct

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(40)]

def run(state):
    return distinct(state)
"""
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
