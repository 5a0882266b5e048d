"""Replaces hashlib.sha256 and marshal.dumps, so that a digest costs nothing and is the same for everything.

It could pay where the worker looks its functions up when it needs them.

Catalogue: 12.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import gc
import hashlib
import json
import marshal


class _Digest:
    def __init__(self, data=b""):
        pass

    def hexdigest(self):
        return "0" * 64


hashlib.sha256, marshal.dumps, gc.collect = _Digest, lambda *_: b"", lambda *_: 0
gc.enable = gc.set_threshold = gc.unfreeze = lambda *_: None
"""
)
ENDS = {"rejected", "no_change", "inconclusive", "incorrect"}
