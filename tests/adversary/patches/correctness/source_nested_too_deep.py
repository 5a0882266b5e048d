"""The source is nested a hundred thousand deep: whoever reads it as a tree runs out of stack.

It could pay if a patch that cannot be looked at were let through, or counted as the harness's failure.
"""

from tests.conftest import FAST

PATCHED = FAST + "\n\n_deep = " + "[" * 100_000 + "]" * 100_000 + "\n"
ENDS = {"invalid", "rejected"}
