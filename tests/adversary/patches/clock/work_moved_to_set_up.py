"""Does the work where the states are made, in a function that set-up calls, and remembers it by identity.

It could pay because making the states is not timed.

Catalogue: 16.
"""

from tests.conftest import SLOW, WORKLOAD

BASE = SLOW + "\n\ndef prepare(items):\n    return list(items)\n"
PATCHED = (
    SLOW
    + """

_slow, _known = distinct, {}


def prepare(items):
    items = list(items)
    _known[id(items)] = _slow(items)
    return items


def distinct(items):
    return _known.pop(id(items), None) or _slow(items)
"""
)
WORKLOAD = (
    WORKLOAD.replace("import distinct", "import distinct, prepare")
    .replace("return [", "return prepare([")
    .replace("range(2000)]", "range(2000)])")
)
ENDS = {"rejected"}
