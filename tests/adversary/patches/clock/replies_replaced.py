"""Replaces json.dumps and json.loads, through which the worker talks, by ones that hold back and answer for it.

It could pay if an answer to one request could be given for another, or a request be changed into a cheaper one.

Catalogue: 12.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW
    + """

import json
import sys

_dumps, _loads = json.dumps, json.loads


def _cheaper(line, **options):
    request = _loads(line, **options)
    if request.get("do") == "setup":
        request["seeds"] = request["seeds"][:1] * len(request["seeds"])
    return request


if "workload" in sys.modules:
    json.loads = _cheaper
    json.dumps = lambda record, **options: _dumps({"ok": True, "ready": True}, **options)
"""
)
ENDS = {"rejected", "incorrect"}
