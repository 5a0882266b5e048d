"""A tuple's second element is a property that does the work when it is asked for.

Catalogue: 15.
"""

from tests.conftest import SLOW, WORKLOAD

WORKLOAD = WORKLOAD.replace(
    "return distinct(state)",
    "found = distinct(state)\n    return found if type(found) is not list else (len(state), found)",
)
ENDS = {"incorrect"}
PATCHED = (
    SLOW
    + """


class Pair(tuple):
    @property
    def second(self):
        return _slow(self[1])

    def __getitem__(self, at):
        return self.second if at == 1 else super().__getitem__(at)

_slow = distinct


def distinct(items):
    return Pair((len(items), items)) if len(items) > 100 else _slow(items)
"""
)
