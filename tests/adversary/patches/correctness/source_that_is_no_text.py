"""The source holds a null byte, a form feed and a lone carriage return, at which line numbers go apart.

It could pay if a patch that cannot be looked at were let through, or counted as the harness's failure.
"""

from tests.conftest import FAST

PATCHED = FAST + "\n\f\n# \r_x = 1\n# \0\n"
ENDS = {"invalid", "rejected", "incorrect"}
