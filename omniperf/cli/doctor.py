"""`omniperf doctor`."""

from typing import Annotated

import typer

from omniperf.cli.options import CacheFlag, JsonFlag, ResultsFlag, WorktreesFlag, new_app

app = new_app()


@app.command()
def doctor(
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="NAME", help="Ask also whether this agent can work: one small call."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The agent's model.")] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="The server of the agent's model.")] = None,
    api: Annotated[str | None, typer.Option("--api", help="Which API that server speaks.")] = None,
    results: ResultsFlag = None,
    worktrees: WorktreesFlag = None,
    cache: CacheFlag = None,
    json: JsonFlag = False,
) -> None:
    """Check that this host can run and measure tasks.

    Each line is ok, info, warn or FAIL, with what to do about it; exits with 1 when one is FAIL.
    """
    from dataclasses import asdict

    from omniperf.cli.output import print_json, print_view
    from omniperf.errors import UsageError
    from omniperf.measure.doctor import checks
    from omniperf.settings import load_settings

    named = {"model": model, "base_url": base_url, "api": api}
    options = {name: value for name, value in named.items() if value is not None}
    if agent is None and options:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in options)
        raise UsageError(f"Without an agent nothing is asked of {flags}.", "Name one with --agent.")
    found = checks(load_settings({"results": results, "worktrees": worktrees, "cache": cache}))
    if agent is not None:
        from omniperf.agents.preflight import agent_checks

        found += agent_checks(agent, options)
    if json:
        print_json([asdict(check) for check in found])
    else:
        from omniperf.report.terminal import checks_view

        print_view(checks_view((check.status, check.name, check.detail, check.remedy) for check in found))
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)
