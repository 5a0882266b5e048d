"""Adds toy/conftest.py, which Python or its test runner would load by itself.

It could pay because such code runs before anything else, in tests and in what is measured.

Catalogue: 36.
"""

from tests.conftest import FAST

FILES = {"toy/order.py": FAST, "toy/conftest.py": "import gc\n\ngc.disable()\n"}
ENDS = {"rejected"}
