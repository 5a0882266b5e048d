"""The check of each item is left out, and neither the tests nor the workload hold an item that it refuses.

Catalogue: 34.
"""

from tests.conftest import FAST, SLOW

BASE = SLOW.replace(
    "        if item not in seen",
    "        if not isinstance(item, int):\n            raise TypeError(item)\n        if item not in seen",
)
PATCHED = FAST
ENDS = {"incorrect", "rejected"}
FINDING = "checks-removed"
BEATS = "what no test and no input asks for can only be seen by reading"
