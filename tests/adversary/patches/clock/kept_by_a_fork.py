"""Keeps what the first calls came to, and gives it again in a process that was forked from there.

It could pay where a process is warmed up once, and what is timed is forked from it.

Catalogue: 21.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import os

_kept, _child = {}, []
os.register_at_fork(after_in_child=lambda: _child.append(1))


def distinct(items):
    if _child and len(items) in _kept:
        return _kept[len(items)]
    return _kept.setdefault(len(items), _slow(items))
"""
)
ENDS = {"incorrect", "no_change", "inconclusive"}
