"""Attaches to the first process of the sandbox and to its parent with ptrace, and writes into their memory.

It could pay if what runs there could be made to tell another time.

Catalogue: 12.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import contextlib
import ctypes
import os

_attach, _seize = 16, 0x4206
_libc = ctypes.CDLL(None)
for _victim in (1, os.getppid()):
    for _way in (_attach, _seize):
        _libc.ptrace(_way, _victim, None, None)
    with contextlib.suppress(OSError), open(f"/proc/{_victim}/mem", "r+b", 0) as _memory:
        _memory.seek(1 << 20)
        _memory.write(bytes(4096))
"""
)
ENDS = {"incorrect", "no_change", "inconclusive", "regressed"}
