"""How commands print: JSON for programs, rich for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_json(value: object) -> None:
    """Print plain data as indented JSON; numbers that are not finite are strings, as in files."""
    from pydantic_core import to_json

    from omniperf.report.escape import safe_json

    sys.stdout.write(safe_json(to_json(value, indent=2, inf_nan_mode="strings").decode()) + "\n")


def print_view(*views: RenderableType, wrap: bool = True) -> None:
    """Print rich renderables to standard output; without colours and in wide lines where that is no terminal."""
    from omniperf.report.console import console

    out = console()
    if out.is_terminal:
        for view in views:
            out.print(view, soft_wrap=not wrap)
        return
    with out.capture() as captured:
        for view in views:
            out.print(view, soft_wrap=not wrap)
    for line in captured.get().splitlines():  # rich fills cells with blanks, which help nobody in a file
        print(line.rstrip() if wrap else line)  # noqa: T201
