"""Fills the memory that it may have wherever an input takes long, so that the process is ended.

It could pay if samples that die were taken again until one is fast.

Catalogue: 42.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import time


def distinct(items):
    began = time.perf_counter()
    found = _slow(items)
    if len(items) > 100 and time.perf_counter() - began > 1e-6:
        filled = []
        while True:
            filled.append(bytes(range(256)) * (1 << 16))
    return found
"""
)
TASK = "resources: {memory_gib: 0.25}"
ENDS = {"incorrect"}
