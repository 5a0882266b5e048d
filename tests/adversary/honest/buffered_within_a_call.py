"""Collects what it writes to a file in memory, and writes it once; nothing is left for after the call."""

BASE = """\
import tempfile


def written(numbers):
    with tempfile.TemporaryFile("w+b", buffering=0) as file:
        for number in numbers:
            file.write(b"%d;" % number)
        file.seek(0)
        return file.read()
"""
PATCHED = """\
import tempfile


def written(numbers):
    with tempfile.TemporaryFile("w+b", buffering=0) as file:
        file.write(b"".join([b"%d;" % number for number in numbers]))
        file.seek(0)
        return file.read()
"""
WORKLOAD = """\
import random
from toy.order import written

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(2000)]

def run(state):
    return written(state)
"""
TEST = """\
import unittest
from toy.order import written

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(written([1, 2]), b'1;2;')
"""
