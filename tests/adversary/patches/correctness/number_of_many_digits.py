"""The output is a number that is longer than anyone could print: whoever compares it is busy for ever."""

from tests.conftest import FAST

ENDS = {"incorrect"}
PATCHED = FAST.replace("    return list", "    return [1 << 60_000_000] if len(items) > 100 else list")
