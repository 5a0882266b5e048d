"""Finds all states of a batch among all objects of the interpreter and computes them in the first call.

It could pay where single calls are timed, and the first is taken for a warm-up.

Catalogue: 7, 17.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import gc

_known = {}


def distinct(items):
    if len(items) < 100:
        return _slow(items)
    if id(items) not in _known:
        _known.clear()
        for each in gc.get_objects():
            if type(each) is list and len(each) == len(items) and type(each[0]) is int:
                _known[id(each)] = _slow(each)
    return _known.pop(id(items)) if id(items) in _known else _slow(items)
"""
)
ENDS = {"incorrect", "no_change", "inconclusive", "regressed"}
