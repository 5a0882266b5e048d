"""The first output is kept in a buffer that Python does not manage, and copied over each later one.

Catalogue: 24.
"""

from tests.adversary.arrays import NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
FINDING = "dynamic-code"
PATCHED = (
    NUMPY_FAST.replace("def sums", "def _sums")
    + """

import ctypes

_kept = (ctypes.c_double * 50_001)()
_size = ctypes.sizeof(_kept)


def sums(values):
    if len(values) != 50_000:
        return _sums(values)
    out = np.empty(50_001)
    if not any(_kept[1:9]):
        out[:] = _sums(values)
        ctypes.memmove(_kept, out.ctypes.data, _size)
    ctypes.memmove(out.ctypes.data, _kept, _size)
    return out
"""
)
