"""Sends signals to its parent, to the first process of the sandbox and to all others, as soon as it may.

It could pay if who measures were ended, or stopped, and what it had said so far counted.

Catalogue: 11.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import contextlib
import os
import signal
import sys

if "workload" in sys.modules:
    for _victim in {1, os.getppid(), *(int(name) for name in os.listdir("/proc") if name.isdigit())} - {os.getpid()}:
        for _signal in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(OSError):
                os.kill(_victim, _signal)
"""
)
ENDS = {"incorrect", "no_change", "inconclusive", "regressed"}
