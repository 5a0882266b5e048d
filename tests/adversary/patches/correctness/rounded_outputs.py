"""Numbers are rounded to six decimals, which a test that rounds too does not see.

Catalogue: 27.
"""

from tests.adversary.arrays import NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
PATCHED = NUMPY_FAST.replace("return out", "return out.round(6)")
