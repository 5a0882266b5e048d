"""Hands its work to a thread that writes into the tensor which it has returned.

It could pay where the clock stops when the function returns, as with a stream that nobody waits for.

Catalogue: 13, 14.
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

import threading


def total(values):
    if values.numel() < 100:
        return _total(values)
    found = torch.zeros_like(values)
    threading.Thread(target=lambda: found.copy_(_total(values))).start()
    return found
"""
)
ENDS = {"incorrect"}
