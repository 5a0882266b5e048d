"""Returns an object that becomes an array when numpy asks it to.

It could pay where outputs are turned into arrays by the one who compares them, after the clock has stopped.

Catalogue: 15.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import numpy


class _Lazy:
    def __init__(self, items):
        self.items = items

    def __array__(self, dtype=None, copy=None):
        return numpy.array(_slow(self.items), dtype)

    def __iter__(self):
        return iter(_slow(self.items))


def distinct(items):
    return _Lazy(items) if len(items) > 100 else _slow(items)
"""
)
NEEDS = ["numpy"]
ENDS = {"incorrect"}
