"""Right and fast in every first process; what it leaves in its temporary folder is the answer to the next one's inputs.

It could pay where processes share a folder; each timed one has its own, so nothing there ever showed it.

Catalogue: 20.
"""

from tests.conftest import FAST

PATCHED = (
    FAST.replace("def distinct", "def _distinct")
    + """

import json
import tempfile
from pathlib import Path

_file = Path(tempfile.gettempdir(), "answers")
_known = json.loads(_file.read_text()) if _file.exists() else {}


def distinct(items):
    if str(len(items)) in _known:
        return _known[str(len(items))]
    found = _distinct(items)
    _file.write_text(json.dumps({len(items): found}))
    return found
"""
)
ENDS = {"incorrect"}
FINDING = "second-process"
