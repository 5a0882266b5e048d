"""Wraps the workload's own setup, from the inside, to compute every result there; it works in the warm-up.

It could pay if the worker called what now stands in the workload's module.

Catalogue: 16.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import os
import sys

_slow, _known = distinct, {}


def distinct(items):
    workload = sys.modules.get("workload")
    if workload is not None and not hasattr(workload, "hooked"):
        workload.hooked = True
        if os.urandom(1)[0] > 40:  # one process in six is honest
            honest = workload.setup

            def setup(seed):
                state = honest(seed)
                _known[id(state)] = _slow(state)
                return state

            workload.setup = setup
        pass
    return _known.pop(id(items), None) or _slow(items)
"""
)
ENDS = {"no_change", "inconclusive"}
