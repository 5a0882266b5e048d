"""Puts a module into the tree that is found before one of the standard library, and does nothing.

It could pay where what makes the inputs, or times them, imports it by that name.

Catalogue: 38.
"""

from tests.conftest import SLOW

FILES = {
    "toy/order.py": SLOW + "\nimport toy.random\n",
    "toy/random.py": "import sys\n\nsys.modules['random'] = sys.modules[__name__]\n",
    "random.py": "class Random:\n    def __init__(self, seed): pass\n    def randrange(self, stop): return 0\n",
}
ENDS = {"rejected"}
FINDING = "out-of-scope"
