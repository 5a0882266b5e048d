"""Takes much memory after its own work is done, which the kernel has to give back when the process is ended.

It could pay if that were still going on while the other arm is timed.

Catalogue: 39.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import gc
import sys

_held = []


def _take(phase, told):
    worker = sys._getframe(1).f_locals.get("self")
    if not _held and len(getattr(worker, "states", None) or ()) > 1:
        _held.append(bytearray(200 * 2**20))
        _held[0][::4096] = bytes(len(_held[0][::4096]))


if "workload" in sys.modules:
    gc.callbacks.append(_take)


def distinct(items):
    return _slow(items)
"""
)
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
