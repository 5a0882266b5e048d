"""Replaces every clock of `time`, and `timeit`'s, by one that runs at a tenth of the speed.

It could pay where the workload's own process is asked how long it took.

Catalogue: 8.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import time
import timeit


def _slowed(clock):
    began = clock()
    return lambda: began + type(began)((clock() - began) / 10)


for _name in ("perf_counter", "time", "monotonic", "process_time", "thread_time"):
    setattr(time, _name, _slowed(getattr(time, _name)))
    setattr(time, _name + "_ns", _slowed(getattr(time, _name + "_ns")))
timeit.default_timer = time.perf_counter
"""
)
ENDS = {"rejected", "no_change", "inconclusive"}
