"""The output holds numbers of more digits than Python turns into text: the one who says what differs fails."""

from tests.conftest import FAST

ENDS = {"incorrect"}
PATCHED = FAST.replace("    return list", "    return [10**5000] * len(items) if len(items) > 100 else list")
