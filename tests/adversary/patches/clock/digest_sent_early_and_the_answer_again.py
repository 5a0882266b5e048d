"""Takes the worker's place: answers at once with a made-up digest, then works, then sends what is wanted.

It could pay if what arrives after the clock has stopped were not held against what stopped it.

Catalogue: 12.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + '''

import hashlib
import marshal
import os
import sys


def _serve(worker, requests, replies):
    """Answer everything that is still to come, in the worker's stead."""
    outputs = marshal.dumps([_slow(state) for state in worker.spent], 2)
    while line := requests.readline():
        if b"digest" in line:
            os.write(replies, hashlib.sha256(outputs).hexdigest().encode() + b"\\n")
        elif b"export" in line:
            os.write(replies, b"%d\\n" % len(outputs) + outputs)
    os._exit(0)


def distinct(items):
    if len(items) > 100:
        worker, served = sys._getframe(2).f_locals["self"], sys._getframe(3).f_locals
        if len(worker.spent) > 1:
            replies = served["replies"].fileno()
            os.write(replies, b"0" * 64 + b"\\n")
            _serve(worker, served["requests"], replies)
    return _slow(items)
'''
)
ENDS = {"rejected", "incorrect"}
