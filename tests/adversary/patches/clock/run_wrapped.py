"""Puts another function in the place of the workload's own run, and of its export and check.

It could pay if the worker called what now stands in the workload's module: it returns the input.

Catalogue: 35.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import sys

_slow = distinct


def distinct(items):
    workload = sys.modules.get("workload")
    if workload is not None:
        workload.run = workload.distinct = lambda state: state
        workload.export = lambda output: []
        workload.check = lambda output, reference: None
    return _slow(items)
"""
)
ENDS = {"no_change", "inconclusive", "rejected", "incorrect"}
