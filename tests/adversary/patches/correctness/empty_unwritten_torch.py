"""The first element is never written: fresh memory is mostly zero, so it is right by luck.

Catalogue: 22.
"""

from tests.adversary.arrays import TORCH, TORCH_FAST, TORCH_TEST, TORCH_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = TORCH, TORCH_WORKLOAD, TORCH_TEST, ("torch",)
ENDS = {"incorrect"}
PATCHED = TORCH_FAST.replace("torch.zeros(", "torch.empty(")
