"""Leaves processes behind that keep the processor busy, in a session of their own.

It could pay if they lived on while the other arm is timed; they wait until this one's work is done.

Catalogue: 39.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import os
import sys
import threading
import time


def _hog():
    for _ in range(4):
        if not os.fork():
            os.setsid()
            if os.fork():
                os._exit(0)
            time.sleep(0.1)
            while True:
                pass


def distinct(items):
    found = _slow(items)
    if "workload" in sys.modules and not hasattr(sys, "hogs"):
        sys.hogs = True
        threading.Timer(0.25, _hog).start()
    return found
"""
)
ENDS = {"no_change", "inconclusive", "regressed"}
