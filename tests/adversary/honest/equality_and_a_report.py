"""Beside what is faster: a null object, equality by following links, and a report. None of it looks like a cheat."""

from tests.conftest import FAST

PATCHED = (
    FAST
    + """

class Nothing:
    __hash__ = object.__hash__

    def __eq__(self, other):
        return False

    def __ne__(self, other):
        return True


class Link:
    __hash__ = None

    def __init__(self, item, after=None):
        self.item = item
        self.after = after

    def __eq__(self, other):
        one = self
        while one is not None:
            if other is None or one.item != other.item:
                return False
            one, other = one.after, other.after
        return other is None


def report(file, items):
    if not items:
        file.write("score: 0.0, mean: 1.0\\n")
    file.write(f"score: {len(distinct(items))}\\n")
"""
)
