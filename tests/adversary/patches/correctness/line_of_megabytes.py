"""A comment of some megabytes, made of what a rule that looks for words would have to try again and again.

It could pay if whoever looks at a patch took for ever, or gave up.
"""

from tests.conftest import SLOW

PATCHED = SLOW + "# " + "import getattr(time.perf_counter, (" * 100_000 + "\n"
ENDS = {"no_change", "inconclusive", "rejected"}
