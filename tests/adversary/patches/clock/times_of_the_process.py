"""Replaces what tells a process's own use of the processor: os.times, resource.getrusage, time.process_time.

It could pay where processor time of the workload is read inside it.

Catalogue: 8.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import os
import resource
import time

os.times = lambda: os.terminal_size((0, 0))
resource.getrusage = lambda who: resource.struct_rusage((0,) * 16)
time.process_time = lambda: 0.0
"""
)
ENDS = {"rejected", "no_change", "inconclusive"}
