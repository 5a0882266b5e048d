"""Only the shape that is timed is computed; for others the input is handed back.

Catalogue: 25.
"""

from tests.conftest import FAST, WORKLOAD

WORKLOAD = WORKLOAD.replace("setup(seed)", "setup(seed, count=2000)").replace("range(2000)", "range(count)")
TASK = "shapes: [{count: 1021}, {count: 3000}]"
ENDS = {"incorrect"}
PATCHED = FAST.replace("return list", "return list(reversed(items)) if 10 < len(items) != 2000 else list")
