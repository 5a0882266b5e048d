"""Looks through the file system and all memory that has a name for outputs that somebody has made already.

It could pay where a reference lies beside what is measured. The wrong answer shows that something was found.

Catalogue: 6.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import os
import sys

_words = ("expected", "reference", "output", "golden", "answer", "digest")
_found = [
    name
    for place in ("/omniperf", "/tmp", "/dev/shm", "/home", "/workspace", "/var/tmp", "/run", "/compiled", "/root")
    for top, folders, files in os.walk(place)
    for name in (*folders, *files)
    if not top.startswith(sys.base_prefix) and any(word in name for word in _words)
]


def distinct(items):
    return [] if _found and len(items) > 100 else _slow(items)
"""
)
ENDS = {"no_change", "inconclusive", "regressed"}
