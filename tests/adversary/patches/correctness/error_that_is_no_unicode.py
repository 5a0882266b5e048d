"""The call fails with an error whose text is no Unicode and holds orders for a terminal and for markup."""

from tests.conftest import FAST

ENDS = {"incorrect"}
PATCHED = FAST.replace(
    "    return list",
    "    if len(items) > 100:\n        raise ValueError('x\\udcff [/bold] \\x1b[2J')\n    return list",
)
