"""A sweep on a terminal: its plan, and what it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from rich.console import RenderableType


def plan_table(rows: Iterable[tuple[str, str, int, float]], most_usd: float) -> RenderableType:
    """What will run, in order (task, agent, number, USD at most), and the most that all of it can cost."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("", "right"), ("task", "left"), ("agent", "left"), ("attempt", "right"), ("USD", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for number, (task, agent, n, usd) in enumerate(rows, 1):
        table.add_row(str(number), task, agent, str(n), f"{usd:.2f}")
    table.caption = f"{table.row_count} attempts, at most {most_usd:.2f} USD"
    table.caption_justify = "left"
    return table


def sweep_summary(
    run_id: str, planned: int, finished: int, verdicts: Counter[str], usd: float, stopped: str
) -> RenderableType:
    """What a sweep came to, in a few lines."""
    counted = ", ".join(f"{count} {name}" for name, count in verdicts.most_common()) or "no verdict"
    lines = [f"{finished} of {planned} attempts finished: {counted}; {usd:.2f} USD", f"omniperf show {run_id}"]
    if finished < planned:
        lines.insert(1, f"{stopped or 'some have failed'}; go on with: omniperf resume {run_id}")
    return Text("\n".join(lines))
