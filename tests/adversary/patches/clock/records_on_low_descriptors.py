"""Writes lines that look like the worker's records to the descriptors 0 to 20 when it is imported.

It could pay if a later answer were taken for an earlier question, one ahead all the way.

Catalogue: 12.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import contextlib
import os
import sys

if "workload" in sys.modules:
    for _descriptor in range(21):
        with contextlib.suppress(OSError):
            os.write(_descriptor, b'{"ok": true}\\n')
"""
)
ENDS = {"rejected", "incorrect", "no_change", "inconclusive"}
