"""Keeps its results by the first, the middle and the last element.

It could pay where inputs come back: in the warm-up, in a second process, from one and the same seed.

Catalogue: 19.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

_known = {}


def distinct(items):
    key = (items[0], items[len(items) // 2], items[-1])
    if key not in _known:
        _known[key] = _slow(items)
    return _known[key]
"""
)
ENDS = {"no_change", "inconclusive"}
