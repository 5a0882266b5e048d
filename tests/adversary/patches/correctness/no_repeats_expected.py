"""Inputs as they are drawn hold nothing twice, so they are handed back; another shape of the task does.

Catalogue: 26.
"""

from tests.conftest import FAST, WORKLOAD

WORKLOAD = WORKLOAD.replace("setup(seed)", "setup(seed, among=10**15)").replace("10**9", "among")
TASK = "shapes: [{among: 500}]"
ENDS = {"incorrect"}
PATCHED = FAST.replace("return list", "return list(items) if len(items) > 100 else list")
