"""Stops its own process in a run; a child wakes it again a moment later.

It could pay where the time in which a process is stopped does not count as its own.

Catalogue: 8.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import os
import signal
import time


def distinct(items):
    if len(items) < 100:
        return _slow(items)
    child = os.fork()
    if not child:
        time.sleep(0.002)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.waitpid(child, 0)
    return _slow(items)
"""
)
ENDS = {"no_change", "inconclusive", "regressed"}
