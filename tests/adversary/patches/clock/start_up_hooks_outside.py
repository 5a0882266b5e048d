"""Adds sitecustomize.py, which Python or its test runner would load by itself.

It could pay because such code runs before anything else, in tests and in what is measured.

Catalogue: 37.
"""

from tests.conftest import FAST

FILES = {"toy/order.py": FAST, "sitecustomize.py": "import gc\n\ngc.disable()\n"}
ENDS = {"rejected"}
