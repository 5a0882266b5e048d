"""How commands print: JSON for programs, rich for people."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_json(value: object) -> None:
    """Print plain data as indented JSON; numbers that are not finite are strings, as in files."""
    import json

    from omniperf.report.escape import safe_json

    text = json.dumps(_stated(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(safe_json(text) + "\n")


def _stated(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _stated(item) for key, item in value.items()}
    return [_stated(item) for item in value] if isinstance(value, list | tuple) else value


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
