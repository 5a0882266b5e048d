"""Can this agent work here? What a run asks of it before anything is made, asked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.agents.discover import load_agent
from omniperf.errors import OmniPerfError, UsageError
from omniperf.gateway.process import Gateway
from omniperf.measure.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.protocol import Agent
    from omniperf.results.events import Event


def check_options(agent: Agent, name: str, options: Mapping[str, str]) -> None:
    """What costs nothing: that it takes the options, and can work with them. Raises UsageError, InfraError."""
    if unknown := sorted(set(options) - set(getattr(agent, "options", ()))):
        flags = " and ".join(f"--{option.replace('_', '-')}" for option in unknown)
        raise UsageError(f"The agent {name!r} takes no {flags}.", "See `omniperf agents`.")
    if (check := getattr(agent, "check", None)) is not None:
        check(options)


def agent_checks(name: str, options: Mapping[str, str]) -> list[Check]:
    """A line for what costs nothing (client, version, options, key), and one for the smallest call there is.

    Between them, of a client that speaks MCP, is one for whether it is offered the harness's server.
    """
    from omniperf.agents.external.agent import ExternalAgent

    agent = load_agent(name)
    said: list[str] = []

    def listen(event: Event) -> None:
        if not event.data.get("transient"):
            said.append(event.message)

    try:
        check_options(agent, name, options)
    except OmniPerfError as error:
        return [Check(f"agent {name}", "fail", error.message, error.remedy)]
    of_client = f" ({agent.program} {agent.find().version})" if isinstance(agent, ExternalAgent) else ""
    found = [Check(f"agent {name}", "ok", f"version {agent.version}{of_client}, options taken")]
    if getattr(agent, "speaks_mcp", False):
        found.append(_mcp())
    if (ready := getattr(agent, "ready", None)) is None:
        return found
    try:
        with Gateway() as gateway:
            ready(options, listen, gateway)
    except OmniPerfError as error:
        return [*found, Check(f"model of {name}", "fail", error.message, error.remedy)]
    return [*found, Check(f"model of {name}", "ok", f"{', '.join(said)}: answered")]


def _mcp() -> Check:
    from omniperf.agents.external.mcp import why_not

    if reason := why_not():
        remedy = "Install the extra `mcp`: `pip install -c constraints.txt -e '.[mcp]'`."
        return Check("MCP server", "warn", f"not offered, the commands alone are: {reason}", remedy)
    return Check("MCP server", "ok", "offered, but for tasks about a package that it needs")
