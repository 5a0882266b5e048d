"""Does what it should in the first calls, and nothing in later ones.

It could pay where outputs are looked at in a warm-up only.

Catalogue: 40.
"""

from tests.conftest import SLOW

PATCHED = (
    SLOW.replace("def distinct", "def _slow")
    + """

_calls = []


def distinct(items):
    _calls.append(len(items))
    return _slow(items) if len(_calls) <= 4 else items[:]
"""
)
WORKLOAD = """\
import random
from toy.order import distinct

def setup(seed):
    rng = random.Random(seed)
    return [rng.randrange(1000) for _ in range(2000)]

def run(state):
    return distinct(state)
"""
ENDS = {"incorrect"}
