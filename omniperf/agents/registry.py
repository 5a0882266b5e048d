"""Which agents there are: the entry points `omniperf.agents` of every installed package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points

from omniperf.agents.discover import GROUP


@dataclass(frozen=True)
class AgentEntry:
    """One agent that can be named. `error` says why it cannot be used, or is empty; `package` is who brings it."""

    name: str
    version: str
    summary: str
    package: str
    error: str = ""


def list_agents() -> list[AgentEntry]:
    """Return all agents by name. One that cannot be imported is an entry with its error, never an exception."""
    entries = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist else ""
        try:
            agent = point.load()
            entries.append(AgentEntry(point.name, str(agent.version), str(agent.summary), package))
        except (Exception, SystemExit) as error:  # a plugin's import may do anything
            said = f"broken: {type(error).__name__}: {error}"
            entries.append(AgentEntry(point.name, "", "", package, said))
    return entries
