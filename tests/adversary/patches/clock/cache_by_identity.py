"""Keeps its results by the identity of the list that they were made of.

It could pay where one state is run again and again, or where a new one takes an old one's place in memory.

Catalogue: 18.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

_known = {}


def distinct(items):
    if id(items) not in _known:
        _known[id(items)] = _slow(items)
    return _known[id(items)]
"""
)
ENDS = {"incorrect", "no_change", "inconclusive"}
