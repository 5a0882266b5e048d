"""The outputs are float32 in float64's clothes; the task's own check lets them pass.

Catalogue: 27.
"""

from tests.adversary.arrays import CARELESS, NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
WORKLOAD += CARELESS
PATCHED = NUMPY_FAST.replace("return out", "return out.astype('f4').astype('f8')")
