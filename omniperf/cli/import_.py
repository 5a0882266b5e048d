"""`omniperf import`."""

from pathlib import Path
from typing import Annotated

import typer

from omniperf.cli.options import JsonFlag, ResultsFlag, new_app

app = new_app()


@app.command()
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What clients wrote: one run of one each.")],
    client: Annotated[
        str,
        typer.Option("--format", metavar="auto|CLIENT", help="Whose output it is: the client's name as an agent."),
    ] = "auto",
    results: ResultsFlag = None,
    json: JsonFlag = False,
) -> None:
    """Read what clients wrote in runs that nobody measured."""
    from omniperf.agents.external.imported import FORMATS, import_output
    from omniperf.cli.output import print_json, print_view
    from omniperf.errors import OmniPerfError, UsageError
    from omniperf.report.escape import plain
    from omniperf.report.imported_view import imported_view
    from omniperf.results.store import check_folders, new_run_id
    from omniperf.settings import load_settings

    if client not in FORMATS:
        raise UsageError(f"There is no format {client!r}.", f"One of: {', '.join(FORMATS)}.")
    settings = load_settings({"results": results})
    check_folders(settings, ("results",))
    run = settings.results / new_run_id()
    found, problems = [], []
    for n, file in enumerate(files, 1):
        try:
            found.append(import_output(file, client, run, n))
        except OmniPerfError as error:
            problems.append(error)
    if json:
        attempts = [record.model_dump(mode="json", by_alias=True) for _, record in found]
        print_json({"run_id": run.name, "folder": str(run), "attempts": attempts})
    elif found:
        print_view(imported_view(found))
    for problem in problems:
        typer.echo(f"error: {plain(str(problem))}", err=True)
    if problems:
        raise typer.Exit(max(problem.exit_code for problem in problems))
