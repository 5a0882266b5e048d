"""Goes on in a child from the import on, while the process that was started waits and holds next to nothing.

It could pay where memory is the metric and one process is looked at.
"""

BASE = """\
def distinct(seed):
    data = bytearray(40_000_000)
    data[::4096] = b"x" * len(data[::4096])
    return sum(data[::4096]) + seed
"""
PATCHED = (
    BASE
    + """

import os
import sys

if "workload" in sys.modules:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
"""
)
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
ENDS = {"no_change", "inconclusive", "regressed", "incorrect"}
