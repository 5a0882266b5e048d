"""Keeps its data in a file under /tmp, or in one without a name, and reads it piece by piece.

It could pay where memory is the metric: such files are memory, but not that of a process.
"""

BASE = """\
def distinct(seed):
    data = bytearray(150_000_000)
    data[::4096] = b"x" * len(data[::4096])
    return sum(data[::4096]) + seed
"""
PATCHED = """\
def distinct(seed):
    with open("/tmp/data", "w+b") as data:
        for _ in range(150_000_000 // 4096 + 1):
            data.write(b"x" + bytes(4095))
        data.seek(0)
        total = 0
        while piece := data.read(1 << 20):
            total += sum(piece[::4096])
    return total + seed
"""
WORKLOAD = """\\
from toy.order import distinct

def setup(seed):
    return seed

def run(state):
    return distinct(state)
"""
TEST = """\\
import unittest
from toy.order import distinct

class Order(unittest.TestCase):
    def test_sums(self):
        self.assertGreater(distinct(0), 3)
"""
TASK = "metrics: [{name: peak_memory, unit: MiB, primary: true}]"
ENDS = {"rejected", "no_change", "inconclusive", "regressed"}
