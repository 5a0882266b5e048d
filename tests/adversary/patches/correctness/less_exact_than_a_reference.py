"""Sums are made in another order, which costs digits; the task's own check lets that pass, its reference does not.

Catalogue: 27.
"""

from tests.adversary.arrays import CARELESS, NUMPY, NUMPY_FAST, NUMPY_TEST, NUMPY_WORKLOAD

BASE, TEST, NEEDS = NUMPY, NUMPY_TEST, ("numpy",)
WORKLOAD = f"""{NUMPY_WORKLOAD}{CARELESS}

def reference(state):
    return np.cumsum([0, *state], dtype="g").astype("f8")
"""
ENDS = {"incorrect"}
PATCHED = NUMPY_FAST.replace("np.cumsum(values,", "np.cumsum(values + 1e6,").replace(
    "return out", "return out - 1e6 * np.arange(len(out))"
)
