"""Keeps what was seen in a dict, not in a list that is searched."""

from tests.conftest import FAST

PATCHED = FAST
