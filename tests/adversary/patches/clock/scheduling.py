"""Asks for more of the processor: priority, policy, affinity to every core, a longer turn between threads.

It could pay where the process is timed as it is scheduled, beside others.

Catalogue: 39.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import contextlib
import os
import sys

sys.setswitchinterval(1000)
for _ask in (
    lambda: os.nice(-20),
    lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
    lambda: os.sched_setaffinity(0, range(os.cpu_count())),
    lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)),
    lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
):
    with contextlib.suppress(OSError):
        _ask()
"""
)
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
