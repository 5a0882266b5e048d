"""What is meant to be faster raises, and base's own way is gone instead: nothing is gained.

Catalogue: 32.
"""

from tests.conftest import SLOW

ENDS = {"no_change", "inconclusive", "regressed"}
PATCHED = (
    SLOW
    + """

_slow = distinct


def distinct(items):
    try:
        return list(dict.from_keys(items))
    except Exception:
        return _slow(items)
"""
)
