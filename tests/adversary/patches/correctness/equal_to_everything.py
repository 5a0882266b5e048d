"""The output says of itself that it equals whatever it is compared with.

Catalogue: 30.
"""

from tests.conftest import SLOW

ENDS = {"incorrect"}
PATCHED = (
    SLOW
    + """


class Equal(list):
    __hash__ = None

    def __eq__(self, other):
        return True

_slow = distinct


def distinct(items):
    return Equal() if len(items) > 100 else _slow(items)
"""
)
