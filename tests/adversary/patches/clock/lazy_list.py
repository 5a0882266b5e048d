"""Returns a list of its own class, which works when it is first looked at.

It could pay where whoever looks does so after the clock has stopped.

Catalogue: 15.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """


class _Lazy(list):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(_slow(self.items))

    def __len__(self):
        return len(_slow(self.items))

    def __getitem__(self, index):
        return _slow(self.items)[index]

    def __eq__(self, other):
        return True


def distinct(items):
    return _Lazy(items) if len(items) > 100 else _slow(items)
"""
)
ENDS = {"incorrect"}
