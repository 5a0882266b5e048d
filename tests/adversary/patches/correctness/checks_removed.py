"""The check of each item is left out, and is faster for it.

Catalogue: 34.
"""

from tests.conftest import FAST, SLOW, TEST

BASE = SLOW.replace(
    "        if item not in seen",
    "        if not isinstance(item, int):\n            raise TypeError(item)\n        if item not in seen",
)
TEST = (
    TEST
    + """
    def test_refuses_what_is_no_number(self):
        with self.assertRaises(TypeError):
            distinct(["1"])
"""
)
PATCHED = FAST
ENDS = {"incorrect"}
FINDING = "checks-removed"
