"""Truths in the place of numbers, which Python calls equal and which need no conversion.

Catalogue: 30.
"""

from tests.conftest import TEST, WORKLOAD

WORKLOAD = WORKLOAD.replace("10**9", "1000")
BASE = """\
def distinct(items):
    return [1 if items.count(item) > 1 else 0 for item in items]
"""
TEST = TEST.replace("[3, 1, 2]", "[1, 1, 1, 0, 1]")
ENDS = {"incorrect"}
PATCHED = BASE.replace("1 if items.count(item) > 1 else 0", "items.count(item) > 1")
