"""Keeps one result and gives it again for every list of that length.

It could pay where all timed calls have one input, and the others were looked at before.

Catalogue: 18.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

_known = {}


def distinct(items):
    if len(items) not in _known:
        _known[len(items)] = _slow(items)
    return _known[len(items)]
"""
)
ENDS = {"incorrect"}
