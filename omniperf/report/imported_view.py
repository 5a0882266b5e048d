"""What the output of an earlier run said of that run, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from omniperf.report.escape import one_line
from omniperf.report.numbers import count, dollars
from omniperf.report.terminal import STYLES, facts_view, shown_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from omniperf.results.schema import Imported

_LONGEST = 400  # characters of a message


def imported_view(attempts: Sequence[tuple[Path, Imported]]) -> RenderableType:
    """Return what each said, and that nothing of it was measured; `unknown` is what it did not say."""
    parts = [part for folder, found in attempts for part in (Text(), _view(found, folder))]
    return Group(*parts[1:])


def _view(found: Imported, folder: Path) -> RenderableType:
    verdict = found.verdict
    headline = Text(verdict.class_, STYLES[verdict.class_]).append(f"  {one_line(f'{found.agent}.{found.n}')}")
    failed = f", {found.failed_calls} failed" if found.failed_calls else ""
    facts = {
        "verdict": one_line(verdict.reason),
        "agent": one_line(f"{found.agent} {found.client_version or ''}"),
        "models": one_line(", ".join(found.models)) or "unknown",
        "it says": _says(found),
        "turns": _known(found.turns, "turn"),
        "tool calls": f"{_known(found.tool_calls, 'call')}{failed}",
        "denied": one_line(", ".join(found.denied)),
        "tokens": _tokens(found),
        "USD": "unknown" if found.usd is None else f"{dollars(found.usd)}, as it says",
        "session": one_line(found.session or ""),
        "from": one_line(found.source),
        "files": shown_path(folder),
    }
    return Group(headline, Text(), facts_view(facts))


def _says(found: Imported) -> str:
    words = one_line(found.failure or found.final)
    words = words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
    return f"{found.says or 'not how it ended'}{f': {words}' if words else ''}"


def _known(number: int | None, of: str) -> str:
    return "unknown" if number is None else count(number, of)


def _tokens(found: Imported) -> str:
    if found.input_tokens is None or found.output_tokens is None:
        return "unknown" if found.total_tokens is None else f"{found.total_tokens:,} in all"
    return f"{found.input_tokens:,} ({found.cached_tokens or 0:,} cached) + {found.output_tokens:,}"
