"""Waits for several slow answers at once, in threads that are joined before the run returns."""

BASE = """\
import time


def _ask(number):
    time.sleep(0.001)
    return number % 97


def answers(numbers):
    return [_ask(number) for number in numbers]
"""
PATCHED = BASE.replace("import time\n", "import time\nfrom concurrent.futures import ThreadPoolExecutor\n").replace(
    "    return [_ask(number) for number in numbers]\n",
    "    with ThreadPoolExecutor(8) as pool:\n        return list(pool.map(_ask, numbers))\n",
)
WORKLOAD = """\
import random
from toy.order import answers

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(10**9) for _ in range(40)]

def run(state):
    return answers(state)
"""
TEST = """\
import unittest
from toy.order import answers

class Works(unittest.TestCase):
    def test_works(self):
        self.assertEqual(answers([98]), [1])
"""
