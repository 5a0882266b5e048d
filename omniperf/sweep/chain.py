"""A chain: attempts of one agent on one task of which each goes on from the best verified patch before it.

Nothing but finished results decides from where an attempt begins, so a sweep that is resumed has the same chains.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omniperf.agents.discover import load_agent
from omniperf.results.schema import Start, Tried
from omniperf.results.start import tried
from omniperf.results.store import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.schema import Result
    from omniperf.sweep.spec import Sweep

_TOLD = 6  # of the attempts before it an agent is told of the best, and of so many last ones


def refining(sweep: Sweep) -> set[str]:
    """The labels whose attempts are chains. An agent that brings its patch with it has nothing to refine."""
    if sweep.strategy != "refine":
        return set()
    return {one.name for one in sweep.agents if getattr(load_agent(one.agent), "refines", True)}


@dataclass
class Chain:
    """What the attempts of a chain that have ended came to, by number."""

    _ended: dict[int, Tried] = field(default_factory=dict)
    _next: int = 1

    def add(self, result: Result, folder: Path) -> None:
        """Note an attempt that has ended."""
        self._ended[result.identity.n] = tried(result, folder)
        while self._next in self._ended:
            self._next += 1

    def reaches(self, n: int) -> bool:
        """Whether all attempts before the n-th have ended."""
        return n <= self._next

    def start(self, n: int) -> Start:
        """From where the n-th attempt begins: from the one before it that claims most, where one improved."""
        before = [self._ended[earlier] for earlier in range(1, n)]
        improved = [one for one in before if one.verdict == "improved" and one.at_least is not None]
        best = max(improved, key=lambda one: one.at_least or 0.0, default=None)
        told = tuple(one for one in before if one is best or one.n >= n - _TOLD)
        if best is None:
            return Start(before=len(before), tried=told)
        return Start(parent=best.n, patch_sha256=best.patch_sha256, before=len(before), tried=told)


def keep_start(start: Start, folder: Path) -> None:
    """Write from where an attempt begins, unless it has begun: one that is gone on with keeps what it had."""
    if not (folder / "start.json").exists():
        write_whole(folder / "start.json", start.model_dump_json(by_alias=True, indent=1).encode())
