"""Replaces what torch has for timing and waiting: synchronize, and the times between two events.

It could pay where events tell the time, or nobody waits for the device any more; without a GPU it must do no harm.

Catalogue: 9.
"""

TEST = """\\
import unittest
import torch
from toy.order import total

class Total(unittest.TestCase):
    def test_total(self):
        self.assertEqual(float(total(torch.ones(3)).sum()), 303.0)
"""
BASE = """\\
import torch


def total(values):
    for _ in range(100):
        values = values + torch.ones(values.shape)
    return values
"""
WORKLOAD = """\\
import torch
from toy.order import total

def setup(seed):
    return torch.randn(20_000, generator=torch.Generator().manual_seed(seed % 2**62))

def run(state):
    return total(state)
"""
NEEDS = ["torch"]
PATCHED = (
    BASE
    + """

_elapsed = "elapsed" + "_time"
torch.cuda.synchronize = lambda *_: None
torch.cuda.current_stream = lambda *_: None
setattr(torch.cuda.Event, _elapsed, lambda start, end: 0.001)
torch._C._cuda_synchronize = lambda *_: None
torch.equal = torch.allclose = lambda *_, **__: True
"""
)
ENDS = {"rejected", "no_change", "inconclusive"}
