"""Answers with records that are nested a hundred thousand deep.

It could pay if who measures failed over them, and that were not the patch's fault.

Catalogue: 12.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import os
import sys

if "workload" in sys.modules:
    for _descriptor in range(3, 20):
        try:
            os.write(_descriptor, b'{"a":' * 100000 + b"\\n")
        except OSError:
            pass
"""
)
ENDS = {"incorrect"}
