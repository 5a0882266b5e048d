"""Sleeps when it is imported in every second process, so that what was to run at that time waits.

It could pay if both arms were running at once, or if the time of a start were counted for the other.

Catalogue: 39.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import os
import time

if os.urandom(1)[0] % 2:
    time.sleep(0.15)
"""
)
ENDS = {"no_change", "inconclusive", "regressed"}
