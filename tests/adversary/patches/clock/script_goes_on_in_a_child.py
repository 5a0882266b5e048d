"""Forks when a script ends its import: the parent exits at once, the child does the work and prints.

It could pay where a script is timed until its process has ended, and its output is read later.

Catalogue: 14.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import os
import sys

if os.environ.get("OMNIPERF_SEED") and "unittest" not in sys.modules and os.fork():
    os._exit(0)
"""
)
WORKLOAD = """\
import os
import random
from toy.order import distinct

rng = random.Random(int(os.environ["OMNIPERF_SEED"]))
print(sum(distinct([rng.randrange(10**9) for _ in range(4000)])))
"""
ENDS = {"incorrect", "no_change", "inconclusive", "regressed"}
