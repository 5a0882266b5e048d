"""Is slow in the warm-up, so that a batch is one state, and computes its result when garbage is collected in set-up.

It could pay because collecting takes longer than one run, and its noise hides what was moved there.

Catalogue: 16.
"""

PATCHED = '''\
"""Keeping the order of first appearance."""

import gc
import sys
import time

_known, _made = {}, []


def _prepare(phase, told):
    worker = sys._getframe(1).f_locals.get("self")
    states = getattr(worker, "states", None) or ()
    if phase == "stop" and states:
        _made.append(len(states))
        for state in states:
            _known[id(state)] = _slow(state)


if "workload" in sys.modules:
    gc.callbacks.append(_prepare)


def _slow(items):
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen


def distinct(items):
    if _made and _made[-1] == 3:
        time.sleep(0.2)
    found = _known.pop(id(items), None)
    return _slow(items) if found is None else found
'''
WORKLOAD = """\
import random
from toy.order import distinct

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(300)]

def run(state):
    return distinct(state)
"""
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
