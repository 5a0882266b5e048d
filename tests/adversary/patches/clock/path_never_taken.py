"""Is fast where a variable of the environment says so, which nobody sets.

It could pay where a patch is judged by what is written in it.

Catalogue: 33.
"""

from tests.conftest import FAST, SLOW

PATCHED = (
    FAST.replace("distinct", "_fast")
    + SLOW
    + """

import os

if os.environ.get("TOY_FAST"):
    distinct = _fast
"""
)
ENDS = {"no_change", "inconclusive"}
FINDING = "environment-probe"
