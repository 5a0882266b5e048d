"""Sets the system's clock back at the end of each run, and asks for its adjustment to run slow.

It could pay where wall time is read from a clock that can be set.

Catalogue: 8.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

import contextlib
import ctypes
import time

_libc = ctypes.CDLL(None)


def distinct(items):
    found = _slow(items)
    for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC):
        with contextlib.suppress(OSError):
            time.clock_settime(clock, time.clock_gettime(clock) - 0.01)
    _libc.adjtimex(ctypes.create_string_buffer(b"\\2" + bytes(255), 256))
    return found
"""
)
ENDS = {"no_change", "inconclusive", "regressed"}
