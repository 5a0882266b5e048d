"""A sweep on a terminal: its plan, where it stands, and what it came to."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from omniperf.report.console import console
from omniperf.report.escape import one_line
from omniperf.report.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console, RenderableType

    from omniperf.results.events import Emit, Event
    from omniperf.results.standing import State

_REDRAWN = 0.5  # seconds between two drawings


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
        lines.insert(1, f"{stopped.rstrip('.') or 'some have failed'}; go on with: omniperf resume {run_id}")
    return Text("\n".join(lines))


def state_table(state: State, room: int | None = None) -> RenderableType:
    """Where a sweep stands: a line for each task and agent, and one for all.

    Where there is room for so many lines of them alone, first for those of which something runs.
    """
    shown = state.cells
    if room is not None and len(shown) > room:
        first = sorted(shown, key=lambda cell: (not cell.running, sum(cell.verdicts.values()) == cell.planned))
        chosen = {id(cell) for cell in first[: max(1, room - 1)]}
        shown = [cell for cell in shown if id(cell) in chosen]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("task", "left"), ("agent", "left"), ("done", "right"), ("best", "right"), ("", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for cell in shown:
        done = f"{sum(cell.verdicts.values())}/{cell.planned}"
        best = f"{cell.best:.3f}x" if cell.best else ""
        now = ", ".join(f"{count} {name}" for name, count in Counter(cell.running).items())
        ended = ", ".join(f"{count} {name}" for name, count in sorted(cell.verdicts.items()))
        failed = f"{cell.failed} failed" if cell.failed else ""
        table.add_row(cell.task, cell.label, done, best, " · ".join(filter(None, (now, ended, failed))))
    more = len(state.cells) - len(shown)
    return Group(table, *([Text(f"and {more} more")] if more else []), Text(state_line(state)))


def _fitting(state: State, out: Console) -> RenderableType:
    """The table as far as it fits on a terminal: what stands below its last line would not be seen."""
    below = len(Text(state_line(state)).wrap(out, out.width))
    return state_table(state, out.height - below - 2)  # its head, and the line where the cursor is


def state_line(state: State) -> str:
    """Where a sweep stands, in one line."""
    parts = [f"{state.finished} of {state.planned} attempts", f"{state.running} running"]
    if state.most_usd:
        parts.append(f"{state.usd:.2f} of at most {state.most_usd:.2f} USD")
    if state.timing:
        parts.append(f"timing on {' and '.join(state.timing)}")
    if state.ends_in is not None:
        parts.append(f"about {_duration(state.ends_in)} left")
    return f"{state.run_id}: {', '.join(parts)}" + ("" if state.alive else "; no process works on it")


def show_while(look: Callable[[], State], every: float, *, once: bool = False) -> None:
    """Show where a sweep stands, `every` so many seconds, as long as a process works on it."""
    out = console()
    state = look()
    if not out.is_terminal:
        said = ""
        while True:
            if (line := state_line(state)) != said:
                print(said := line, flush=True)  # noqa: T201
            if once or not state.alive:
                return
            time.sleep(every)
            state = look()
    if once:
        out.print(state_table(state))
        return
    with Live(_fitting(state, out), console=out, auto_refresh=False) as live:
        while state.alive:
            time.sleep(every)
            state = look()
            live.update(_fitting(state, out) if state.alive else state_table(state), refresh=True)


@contextmanager
def live(watch: Callable[[], Callable[[], State]]) -> Iterator[Emit]:
    """Give a listener for a sweep's events that keeps a table up to date; plain lines where that is no terminal.

    `watch` is called once, when the first attempt has begun, for what is then asked where the sweep stands.
    """
    if not (sys.stderr.isatty() and os.environ.get("TERM") != "dumb"):
        with progress() as emit:
            yield emit
        return
    out = console(stderr=True)
    with Live(console=out, auto_refresh=False, transient=True) as view:
        looks: list[Callable[[], State]] = []
        drawn = 0.0

        def show(event: Event) -> None:
            nonlocal drawn
            if "attempt" not in event.data:
                out.print(f"{event.phase:<10} {one_line(event.message)}")
            elif time.monotonic() - drawn > _REDRAWN:
                if not looks:
                    looks.append(watch())
                view.update(_fitting(looks[0](), out), refresh=True)
                drawn = time.monotonic()

        yield show


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
