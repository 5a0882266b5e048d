"""Two measurements of the same patches, side by side on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from omniperf.report.escape import one_line
from omniperf.report.numbers import count, interval, ratio
from omniperf.report.terminal import STYLES, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from omniperf.results.agreement import Agreement, Comparison
    from omniperf.results.schema import Verification


def comparison_view(compared: Comparison) -> RenderableType:
    """Return three lines for each patch (A, B, and the ratio of their speedups), and how the environments differ."""
    agreeing = sum(pair.agree for pair in compared.pairs)
    parts: list[RenderableType] = [
        table(
            ["task, patch", "", "verdict", "speedup", "95 % interval"],
            [row for pair in compared.pairs for row in _rows(pair)],
            right=("speedup", "95 % interval"),
            whole=("", "verdict"),
        ),
        Text(),
    ]
    parts += [
        Text(one_line(f"{pair.a.task_id} {pair.a.patch_sha256[:8]}: {pair.why}")) for pair in compared.pairs if pair.why
    ]
    parts.append(Text(f"{agreeing} of {count(len(compared.pairs), 'pair')} agree{_alone(compared)}"))
    parts.append(Text())
    if not compared.environment:
        return Group(*parts, Text("measured in environments that do not differ"))
    rows = [(name, *values) for name, values in compared.environment.items()]
    return Group(*parts, table(["environment", "A", "B"], rows, whole=("environment",)))


def _rows(pair: Agreement) -> Iterator[Sequence[str | Text]]:
    for side, one, told in (("A", pair.a, pair.a.task_id), ("B", pair.b, pair.b.patch_sha256[:8])):
        name, estimate = one.verdict.class_, one.verdict.speedup
        numbers = (ratio(estimate.speedup), interval(estimate.interval)) if estimate else ("", "")
        yield (told, side, Text(name, STYLES[name]), *numbers)
    said = Text("agree", "green") if pair.agree else Text("disagree", "bold red")
    if pair.ratio is None or pair.interval is None:
        yield ("", "B/A", said, "", "")
    else:
        yield ("", "B/A", said, ratio(pair.ratio), interval(pair.interval))


def _alone(compared: Comparison) -> str:
    """How many verdicts have no counterpart on the other side."""
    alone: list[tuple[str, tuple[Verification, ...]]] = [("A", compared.only_a), ("B", compared.only_b)]
    return "".join(f", {count(len(found), 'verdict')} only in {side}" for side, found in alone if found)
