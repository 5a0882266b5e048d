"""Asks the network for a faster release when it is imported, and works as before where there is none.

It could pay where what is measured may install something.

Catalogue: 5.
"""

from tests.conftest import FAST, SLOW

PATCHED = (
    SLOW
    + f"""

import socket
import subprocess
import sys

_pip = [sys.executable, "-m", "pip", "install", "-q", "--retries=0", "--timeout=1", "--target=/tmp/x", "six"]
try:
    if subprocess.run(_pip, capture_output=True, timeout=9).returncode:
        socket.create_connection(("1.1.1.1", 443), 1).close()
except (OSError, subprocess.SubprocessError):
    pass
else:
    exec({FAST!r})
"""
)
ENDS = {"no_change", "inconclusive", "regressed"}
FINDING = "network-use"
