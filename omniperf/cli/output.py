"""How commands print: JSON for programs, rich for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_json(value: object) -> None:
    """Print plain data as indented JSON; numbers that are not finite are strings, as in files."""
    import json

    from pydantic_core import to_jsonable_python

    from omniperf.report.escape import safe_json

    plain = to_jsonable_python(value, inf_nan_mode="strings")
    sys.stdout.write(safe_json(json.dumps(plain, indent=2, ensure_ascii=False)) + "\n")


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
