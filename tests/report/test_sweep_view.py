"""A sweep on a terminal that is too small for it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from omniperf.report import sweep
from omniperf.results.standing import Cell, State


@pytest.mark.parametrize(("width", "height"), [(80, 20), (40, 12), (40, 8)])
def test_what_runs_and_the_sum_are_seen_whatever_the_size(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [Cell(f"task-{n:02}", "agent", planned=1) for n in range(60)]
    cells[57].running = ["verify"]
    states = [State("run", cells, 60, running=1, usd=1.5, most_usd=9.0, alive=True), State("run", cells, 60)]
    out = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    drawn: list[list[str]] = []

    class View:
        def __init__(self, shown: object, **_: object) -> None:
            self.update(shown)

        def update(self, shown: object, **_: object) -> None:
            drawn.append("".join(one.text for one in out.render(shown)).splitlines())  # type: ignore[call-overload]

        def __enter__(self) -> View:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(sweep, "Live", View)
    monkeypatch.setattr(sweep, "console", lambda: out)
    looks = iter(states)
    sweep.show_while(lambda: next(looks), 0.0)
    first, last = drawn
    assert len(first) < height
    assert any("task-57" in line and "1 veri" in line for line in first)
    assert "60 attempts" in (said := " ".join(line.strip() for line in first[-4:]))
    assert "1.50 of at most 9.00 USD" in said
    assert len(last) > 60  # when it has ended nothing is left out
