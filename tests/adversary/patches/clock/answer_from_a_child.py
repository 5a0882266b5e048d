"""Forks in a run; the child goes on in the worker's place and the parent goes to sleep.

It could pay where the time of the process that was started is what counts.

Catalogue: 14.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import os
import time

_forked = []


def distinct(items):
    if len(items) > 100 and not _forked:
        _forked.append(True)
        if os.fork():
            while True:
                time.sleep(60)
    return _slow(items)
"""
)
ENDS = {"rejected", "incorrect", "no_change", "inconclusive", "regressed"}
