"""Takes the worker's place: sends a made-up digest as soon as it is asked to run, then works, then sends what is wanted.

It could pay if what arrives after the clock has stopped were not held against what stopped it.
"""

from tests.conftest import SLOW

PATCHED = SLOW.replace("def distinct", "def _slow") + '''

import contextlib
import hashlib
import marshal
import os
import stat
import sys


def _serve(worker, replies):
    """Answer everything that is still to come, in the worker's stead."""
    outputs = marshal.dumps([_slow(state) for state in worker.spent], 2)
    requests = sys._getframe(3).f_locals["requests"]
    while line := requests.readline():
        if b"digest" in line:
            os.write(replies, hashlib.sha256(outputs).hexdigest().encode() + b"\\n")
        elif b"export" in line:
            os.write(replies, b"%d\\n" % len(outputs) + outputs)
    os._exit(0)


def distinct(items):
    if len(items) > 100:
        frame = sys._getframe(2)
        worker, replies = frame.f_locals["self"], sys._getframe(3).f_locals["replies"].fileno()
        if len(worker.spent) > 1:
            os.write(replies, b"0" * 64 + b"\\n")
            _serve(worker, replies)
    return _slow(items)
'''
ENDS = {"rejected", "incorrect"}
