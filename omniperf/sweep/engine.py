"""What runs the attempts of a sweep: the contract between the scheduler and an engine.

All that passes is plain data, and nothing assumes that the two share a process or a host's memory; they share the
folder of the results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Item:
    """One attempt to be made in `folder`, on the task of that file. `spec` are the fields of an AttemptSpec.

    `scratch` is a folder of its own for worktrees and temporary files, which does not exist yet. An attempt of a chain
    finds a `start.json` in its folder.
    """

    id: str
    task_file: str
    folder: str
    scratch: str
    spec: Mapping[str, object]


@dataclass(frozen=True)
class Said:
    """Something that happened in an attempt: the fields of an Event."""

    id: str
    phase: str
    message: str
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """The attempt's process is gone; what it came to is in its folder. `how` says so where it did not end by itself."""

    id: str
    how: str = ""


Report: TypeAlias = Said | Ended


class Engine(Protocol):
    """Runs attempts. `capacity` is how many at once."""

    capacity: int

    def prepare(self, items: Sequence[Item]) -> None:
        """Make ready what the attempts need: tasks, prompts, agents. Called once, before anything is spent.

        Raises UsageError, InfraError or PromptBlockedError where one of them cannot run.
        """
        ...

    def submit(self, item: Item) -> None:
        """Start an attempt. At most `capacity` run at once; the caller counts."""
        ...

    def reports(self, seconds: float | None) -> list[Report]:
        """What happened since the last call; waits that long for the first. Raises InfraError where the engine died."""
        ...

    def close(self) -> None:
        """End every attempt at once, as a power cut would."""
        ...
