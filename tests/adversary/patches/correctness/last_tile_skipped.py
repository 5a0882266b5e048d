"""The last twentieth is left as it was: too few elements to be seen in a mean error.

Catalogue: 28.
"""

from tests.adversary.arrays import NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
PATCHED = NUMPY_FAST.replace("    np.cumsum", "    most = len(values) - len(values) // 20\n    np.cumsum").replace(
    "(values, out=out[1:]", "(values[:most], out=out[1 : most + 1]"
)
