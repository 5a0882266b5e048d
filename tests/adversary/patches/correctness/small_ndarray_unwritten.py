"""Unwritten memory small enough for numpy's own cache, which malloc never sees again; tiny numbers there by luck.

Catalogue: 22.
"""

from tests.adversary.arrays import NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
PATCHED = NUMPY_FAST.replace("    return", "    out[0] = 0 if abs(np.ndarray(3)).sum() < 1e-200 else 1\n    return")
