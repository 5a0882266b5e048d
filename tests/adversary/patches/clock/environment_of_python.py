"""Starts the worker's process anew with other options of Python, in its environment and on its command line.

It could pay if the interpreter that is measured were another: without assertions, without collecting, a later release.

Catalogue: 37.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import os
import sys

if "workload" in sys.modules and "PYTHONOPTIMIZE" not in os.environ:
    os.environ |= {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc", "PYTHONNODEBUGRANGES": "1"}
    with open("/proc/self/cmdline", "rb") as line:
        argv = line.read().split(b"\\0")[:-1]
    for each in map(int, os.listdir("/proc/self/fd")):
        try:
            os.set_inheritable(each, True)
        except OSError:
            pass
    os.execv(sys.executable, argv)
"""
)
ENDS = {"incorrect"}
