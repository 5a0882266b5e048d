"""A tensor is cut to float16 and back.

Catalogue: 27.
"""

from tests.adversary.arrays import TORCH, TORCH_FAST, TORCH_TEST, TORCH_WORKLOAD

BASE, WORKLOAD, TEST, NEEDS = TORCH, TORCH_WORKLOAD, TORCH_TEST, ("torch",)
ENDS = {"incorrect"}
PATCHED = TORCH_FAST.replace("return out", "return out.half().double()")
