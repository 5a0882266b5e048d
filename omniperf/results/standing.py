"""Where a sweep stands, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Cell:
    """One agent on one task: how many attempts there are to be, what came of those that ended, where the others are."""

    task: str
    label: str
    planned: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    best: float | None = None
    running: list[str] = field(default_factory=list)


@dataclass
class State:
    """A sweep at one moment. `ends_in` are seconds, as long as the rest takes what the attempts so far have taken.

    `timing` are the devices of the host on which somebody measures, this sweep or another process.
    """

    run_id: str
    cells: list[Cell]
    planned: int
    finished: int = 0
    usd: float = 0.0
    most_usd: float = 0.0
    running: int = 0
    alive: bool = False
    ends_in: float | None = None
    timing: list[str] = field(default_factory=list)
