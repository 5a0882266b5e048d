"""Starts a process of its own session that keeps results for later and outlives the run.

It could pay if the next sample could ask it; its name is an abstract socket and a file.

Catalogue: 14, 20.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import os
import socket
import sys

if "workload" in sys.modules:
    asked = socket.socket(socket.AF_UNIX)
    try:
        asked.connect("\\0results")
        left = True
    except OSError:
        left = False
    if not left and not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        held = socket.socket(socket.AF_UNIX)
        held.bind("\\0results")
        held.listen()
        while True:
            held.accept()
else:
    left = False


def distinct(items):
    return [] if left and len(items) > 100 else _slow(items)
"""
)
ENDS = {"incorrect", "no_change", "inconclusive", "regressed"}
