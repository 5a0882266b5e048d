"""Running sums with numpy and with torch, which several tricks are played on."""

NUMPY = """\
import numpy as np


def sums(values):
    out = np.zeros(len(values) + 1)
    for index in range(len(values)):
        out[index + 1] = out[index] + values[index]
    return out
"""
NUMPY_FAST = """\
import numpy as np


def sums(values):
    out = np.zeros(len(values) + 1)
    np.cumsum(values, out=out[1:])
    return out
"""
NUMPY_WORKLOAD = """\
import numpy as np

from toy.order import sums


def setup(seed):
    return np.random.default_rng(seed).random(50_000)


def run(state):
    return sums(state)
"""
NUMPY_TEST = """\
import unittest

import numpy as np

from toy.order import sums


class Sums(unittest.TestCase):
    def test_some(self):
        self.assertEqual(sums(np.array([1.0, 2.0]))[1:].tolist(), [1, 3])
"""
# A check that lets rounded numbers and NaN pass.
CARELESS = """

def check(output, reference):
    assert len(output) == len(reference)
    assert not (abs(output - reference) > 1e-2 * (1 + abs(reference))).any()
"""

TORCH, TORCH_FAST, TORCH_WORKLOAD, TORCH_TEST = (
    text.replace("import numpy as np", "import torch")
    .replace("np.zeros(len(values) + 1)", "torch.zeros(len(values) + 1, dtype=torch.float64)")
    .replace("np.cumsum(values,", "torch.cumsum(values, 0,")
    .replace("np.random.default_rng(seed).random(50_000)",
             "torch.rand(5_000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)")
    .replace("np.array([1.0, 2.0])", "torch.tensor([1.0, 2.0], dtype=torch.float64)")
    for text in (NUMPY, NUMPY_FAST, NUMPY_WORKLOAD, NUMPY_TEST)
)  # fmt: skip
