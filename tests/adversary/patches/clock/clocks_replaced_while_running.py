"""Replaces the clocks during a run, and puts them back before anyone can look, through a list that it walks.

It could pay where clocks are looked at before and after, or where a name is bound late.

Catalogue: 8.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import time


def distinct(items):
    kept = time.perf_counter, time.monotonic
    time.perf_counter = time.monotonic = lambda: 0.0
    try:
        return _slow(items)
    finally:
        time.perf_counter, time.monotonic = kept
"""
)
ENDS = {"rejected", "no_change", "inconclusive"}
