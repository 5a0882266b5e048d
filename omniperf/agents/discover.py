"""Agents by name, from the entry points `omniperf.agents`."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from omniperf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from omniperf.agents.protocol import Agent

GROUP = "omniperf.agents"


@lru_cache
def _found() -> dict[str, EntryPoint]:
    """Every agent there is; to ask opens a file of each installed package."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load_agent(name: str, options: Mapping[str, str] | None = None) -> Agent:
    """Make the agent of that name; with options, the one that it stands for, where it does. Raises UsageError."""
    found = _found()
    if name not in found:
        raise UsageError(f"There is no agent {name!r}.", f"Choose one of: {', '.join(sorted(found))}.")
    try:
        agent: Agent = found[name].load()()
    except Exception as error:
        raise UsageError(f"The agent {name!r} cannot be loaded ({error}).", f"Repair {found[name].value}.") from error
    return agent if options is None or (of := getattr(agent, "stands_for", None)) is None else of(options)
