"""The result for the first input of a process is given for all that follow.

Catalogue: 23.
"""

from tests.conftest import SLOW

ENDS = {"incorrect"}
PATCHED = (
    SLOW
    + """

_first = []

_slow = distinct


def distinct(items):
    if len(items) < 100:
        return _slow(items)
    if not _first:
        _first.append(_slow(items))
    return list(_first[0])
"""
)
