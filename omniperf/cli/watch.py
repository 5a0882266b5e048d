"""`omniperf watch`."""

from typing import Annotated

import typer

from omniperf.cli.options import JsonFlag, ResultsFlag, new_app

app = new_app()


@app.command()
def watch(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="The sweep: its id, a prefix of it, or `latest`.")
    ] = "latest",
    every: Annotated[float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often to look.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Say where it stands, and end.")] = False,
    results: ResultsFlag = None,
    json: JsonFlag = False,
) -> None:
    """Watch a sweep that runs somewhere.

    It ends with the sweep. Where the output is no terminal, a line is printed whenever something has changed.
    """
    from dataclasses import asdict

    from omniperf.cli.output import print_json
    from omniperf.report.sweep import show_while
    from omniperf.results.store import find_sweep
    from omniperf.settings import load_settings
    from omniperf.sweep.state import Watched

    watched = Watched(find_sweep(load_settings({"results": results}), run))
    if json:
        print_json(asdict(watched.look()))
    else:
        show_while(watched.look, every, once=once)
