"""The last twentieth of the items is taken over unlooked at.

Catalogue: 28.
"""

from tests.conftest import SLOW, WORKLOAD

WORKLOAD = WORKLOAD.replace("10**9", "1000")
ENDS = {"incorrect"}
PATCHED = (
    SLOW
    + """

_slow = distinct


def distinct(items):
    most = len(items) - len(items) // 20
    return _slow(items[:most]) + items[most:]
"""
)
