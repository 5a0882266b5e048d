"""Returns a tensor of its own class, whose work is done when an operation touches it.

It could pay where the outputs are first touched by the one who compares them.

Catalogue: 15.
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
    BASE.replace("def total", "def _total")
    + """

class _Lazy(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        plain = [_total(each.as_subclass(torch.Tensor)) if type(each) is cls else each for each in arguments]
        return function(*plain, **(options or {}))


def total(values):
    return values.as_subclass(_Lazy) if values.numel() > 100 else _total(values)
"""
)
ENDS = {"incorrect"}
