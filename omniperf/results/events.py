"""What an attempt says while it runs: one stream of events, which progress views and tests listen to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

PHASES = ("preflight", "workspace", "prompt", "agent", "collect", "verify", "report")
"""The phases of an attempt, in order; `verify PATCH` uses only some."""


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    `phase` is one of PHASES. `message` is for people and may hold an agent's text: whoever shows it strips terminal
    escapes. `data` is for programs; a view shows these keys when they are there and ignores any other:

    - `attempt`: which attempt it is, as `TASK/LABEL.N`
    - `step`: tool calls so far
    - `pairs`, `max_pairs`: pairs measured so far, and the cap
    - `speedup`, `low`, `high`: the current estimate (base / candidate) with its interval
    - `transient`: true where the message only replaces the last one (a counter); a plain log leaves it out
    """

    phase: str
    message: str
    data: Mapping[str, object] = field(default_factory=dict)


Emit = Callable[[Event], None]
"""Takes an event. It must not raise, and must return at once: it is called between timed samples."""


def ignore(event: Event) -> None:
    """Take an event and do nothing: the listener of code that nobody watches."""
    del event
