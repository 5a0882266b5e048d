"""The one way to a rich console: nothing in what is printed is ever interpreted as markup."""

from __future__ import annotations

import os
import sys

from rich.console import Console

_WIDTH_OF_A_PIPE = 160


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or error. A pipe gets lines of 160 columns, or as many as COLUMNS says."""
    width = None
    stream = sys.stderr if stderr else sys.stdout
    if not stream.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        width = _WIDTH_OF_A_PIPE
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
