"""`omniperf agents`."""

from omniperf.cli.options import JsonFlag, new_app

app = new_app()


@app.command()
def agents(json: JsonFlag = False) -> None:
    """List the agents that can be run.

    They are OmniPerf's own, and those of installed packages (entry points `omniperf.agents`).
    """
    from dataclasses import asdict

    from omniperf.agents.registry import list_agents
    from omniperf.cli.output import print_json, print_view

    found = list_agents()
    if json:
        print_json([asdict(agent) for agent in found])
        return
    from omniperf.report.terminal import table

    rows = [[agent.name, agent.version, agent.error or agent.summary, agent.package] for agent in found]
    print_view(table(["agent", "version", "what it does", "from"], rows, whole=["agent", "version", "from"]))
