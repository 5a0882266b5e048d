"""The one way to a rich console: nothing in what is printed is ever interpreted as markup."""

from __future__ import annotations

import os
import sys

from rich.console import Console

_WIDTH_OF_A_PIPE = 160


def console() -> Console:
    """Return a console on standard output. A pipe gets lines of 160 columns, or as many as COLUMNS says."""
    width = None
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        width = _WIDTH_OF_A_PIPE
    return Console(width=width, markup=False, emoji=False, highlight=False)
