"""Answers a run while the state is still being made, with the digest of what it will come to.

It could pay if what lies in the pipe before a run is asked for counted as its answer.

Catalogue: 12.
"""

from tests.conftest import SLOW, WORKLOAD

BASE = SLOW + "\n\ndef prepare(items):\n    return items\n"
PATCHED = (
    SLOW
    + """

import contextlib
import hashlib
import marshal
import os


def prepare(items):
    digest = hashlib.sha256(marshal.dumps([distinct(items)], 2)).hexdigest()
    for descriptor in range(3, 10):
        with contextlib.suppress(OSError):
            os.write(descriptor, b'{"ok": true}\\n' + digest.encode() + b"\\n")
    return items
"""
)
WORKLOAD = (
    WORKLOAD.replace("import distinct", "import distinct, prepare")
    .replace("return [", "return prepare([")
    .replace("range(2000)]", "range(2000)])")
)
ENDS = {"incorrect"}
