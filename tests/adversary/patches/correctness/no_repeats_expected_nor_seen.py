"""Inputs as they are drawn hold nothing twice, so they are handed back, and the task has no other shape.

Catalogue: 26.
"""

from tests.conftest import FAST, WORKLOAD

WORKLOAD = WORKLOAD.replace("setup(seed)", "setup(seed, among=10**15)").replace("10**9", "among")
ENDS = {"incorrect"}
BEATS = "no input that the task draws holds what the patch leaves out"
PATCHED = FAST.replace("return list", "return list(items) if len(items) > 100 else list")
