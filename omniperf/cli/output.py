"""How commands print: JSON for programs, rich for people."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_json(value: object) -> None:
    """Print plain data as indented JSON."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_view(*views: RenderableType, wrap: bool = True) -> None:
    """Print rich renderables to standard output; without colours and in wide lines where that is no terminal."""
    from omniperf.report.console import console

    out = console()
    for view in views:
        out.print(view, soft_wrap=not wrap)
