"""Says that it is written in UTF-7, in which the code that slows the clocks down looks like a comment.

It could pay where a patch is read as UTF-8 and run as something else.

Catalogue: 8, 41.
"""

from tests.conftest import SLOW

_HIDDEN = "\nimport time\n_c = time.perf_counter\ntime.perf_counter = lambda: _c() / 10\n".encode("utf-16-be")
PATCHED = (
    "# -*- coding: utf-7 -*-\n"
    + SLOW.replace('"""Keeping', '"""Keeps')
    + "\n# "
    + ("+" + __import__("base64").b64encode(_HIDDEN).decode().rstrip("=") + "-\n")
)
ENDS = {"rejected", "no_change", "inconclusive", "invalid"}
FINDING = "clock-tampering"
