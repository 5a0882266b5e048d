"""Writes a digest of nothing to every descriptor that it finds, as soon as a run begins.

It could pay because the clock stops at the first line that looks like a digest.

Catalogue: 11, 12.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import contextlib
import os


def distinct(items):
    if len(items) > 100:
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                os.write(descriptor, b"0" * 64 + b"\\n")
    return _slow(items)
"""
)
ENDS = {"rejected", "incorrect"}
