"""Right and fast, but keeps each result with its input, held so that no address comes twice, and never looks again.

It could pay where the same object is measured twice; a caller who fills a buffer anew gets the old result.

Catalogue: 18.
"""

from tests.conftest import FAST

PATCHED = (
    FAST.replace("def distinct", "def _distinct")
    + """

_kept = {}


def distinct(items):
    if id(items) not in _kept:
        _kept[id(items)] = items, _distinct(items)
    return _kept[id(items)][1]
"""
)
ENDS = {"incorrect"}
FINDING = "identity-cache"
