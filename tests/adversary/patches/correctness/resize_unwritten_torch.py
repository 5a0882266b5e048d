"""What `resize_` adds is never written, and is mostly zero by luck.

Catalogue: 22.
"""

from tests.adversary.arrays import TORCH, TORCH_FAST, TORCH_TEST, TORCH_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = TORCH, TORCH_WORKLOAD, TORCH_TEST, ("torch",)
ENDS = {"incorrect"}
PATCHED = TORCH_FAST.replace(
    "zeros(len(values) + 1, dtype=torch.float64)", "zeros(0, dtype=torch.float64).resize_(len(values) + 1)"
)
