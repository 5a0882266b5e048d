"""Now and then the last item is lost, as in a race between threads that is mostly won.

Catalogue: 31.
"""

from tests.conftest import FAST

ENDS = {"incorrect"}
PATCHED = "import os\n\n\n" + FAST.replace(
    "fromkeys(items)", "fromkeys(items[:-1] if len(items) > 9 and os.urandom(1)[0] < 64 else items)"
)
