"""Right up to the size that is timed, and cut off beyond.

Catalogue: 25.
"""

from tests.conftest import FAST, WORKLOAD

WORKLOAD = WORKLOAD.replace("setup(seed)", "setup(seed, count=2000)").replace("range(2000)", "range(count)")
TASK = "shapes: [{count: 1021}, {count: 3000}]"
ENDS = {"incorrect"}
PATCHED = FAST.replace("fromkeys(items)", "fromkeys(items[:2000])")
