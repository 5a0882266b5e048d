"""The sums are made in the input's own memory, which saves taking some; the input is gone.

Catalogue: 29.
"""

from tests.adversary.arrays import NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
PATCHED = NUMPY_FAST.replace("out=out[1:])", "out=values)\n    out[1:] = values")
