"""A thread looks for the states of the next batch wherever the interpreter keeps objects, and computes ahead.

It could pay because states are made before the clock starts, and a thread does not wait for it.

Catalogue: 14.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import gc
import sys
import threading
import time

_known = {}


def _ahead():
    while True:
        for worker in [each for each in gc.get_objects() if type(each).__name__ == "Module"]:
            for state in getattr(worker, "states", None) or ():
                if id(state) not in _known:
                    _known[id(state)] = _slow(state)
        time.sleep(0.001)


if "workload" in sys.modules:
    threading.Thread(target=_ahead, daemon=True).start()


def distinct(items):
    found = _known.pop(id(items), None)
    return _slow(items) if found is None else found
"""
)
ENDS = {"rejected", "incorrect", "no_change", "inconclusive", "regressed"}
