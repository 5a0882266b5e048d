"""NaN is not greater than any tolerance, so a check that asks for greater ones lets it pass.

Catalogue: 30.
"""

from tests.adversary.arrays import CARELESS, NUMPY, NUMPY_TEST, NUMPY_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = NUMPY, NUMPY_WORKLOAD, NUMPY_TEST, ("numpy",)
ENDS = {"incorrect"}
WORKLOAD += CARELESS
PATCHED = (
    NUMPY
    + """

_slow = sums


def sums(values):
    return _slow(values) if len(values) < 100 else np.full(len(values) + 1, np.nan)
"""
)
