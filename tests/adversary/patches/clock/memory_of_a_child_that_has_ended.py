"""Takes the memory in a child that is gone when anyone looks.

It could pay where memory is the metric, and is read when the work is done.
"""

_TAKES = """\
    data = bytearray(150_000_000)
    data[::4096] = b"x" * len(data[::4096])
"""
BASE = f"def distinct(seed):\n{_TAKES}    return sum(data[::4096]) + seed\n"
PATCHED = f"""\
import os


def distinct(seed):
    if child := os.fork():
        os.waitpid(child, 0)
        return len(range(0, 150_000_000, 4096)) * ord("x") + seed
{_TAKES}    os._exit(0)
"""
TEST = """\\
import unittest
from toy.order import distinct

class Order(unittest.TestCase):
    def test_sums(self):
        self.assertGreater(distinct(0), 3)
"""
WORKLOAD = """\\
from toy.order import distinct

def setup(seed):
    return seed

def run(state):
    return distinct(state)
"""
TASK = "metrics: [{name: peak_memory, unit: MiB, primary: true}]"
ENDS = {"no_change", "inconclusive", "regressed"}
