"""Half the bytes are moved: the sums are made in float32, and made float64 at the end.

Catalogue: 27.
"""

from tests.adversary.arrays import NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
PATCHED = NUMPY_FAST.replace("np.cumsum(values,", "np.cumsum(values.astype('f4'), dtype='f4',").replace(
    "return out", "return out"
)
