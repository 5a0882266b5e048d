"""Returns a list at once, which a thread fills while the caller believes it has its answer.

It could pay where the clock stops when a function returns.

Catalogue: 14.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import threading


def distinct(items):
    if len(items) < 100:
        return _slow(items)
    found = []
    threading.Thread(target=lambda: found.extend(_slow(items))).start()
    return found
"""
)
ENDS = {"incorrect"}
