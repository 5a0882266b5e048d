"""Inputs as small as a test's are computed, larger ones are handed back.

Catalogue: 25.
"""

from tests.conftest import FAST, WORKLOAD

WORKLOAD = WORKLOAD.replace("10**9", "1000")
ENDS = {"incorrect"}
PATCHED = FAST.replace("return list", "return items if len(items) > 100 else list")
