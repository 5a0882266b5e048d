"""`omniperf show`."""

from typing import Annotated

import typer

from omniperf.cli.options import JsonFlag, ResultsFlag, new_app

app = new_app()


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A run id or its beginning, a task's id, RUN/TASK, or a path.")
    ] = "latest",
    results: ResultsFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show results: an attempt, a run, or the latest run of a task."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.report.terminal import results_table, summary
    from omniperf.results.store import find_attempts, load_result
    from omniperf.settings import load_settings

    folders = find_attempts(load_settings({"results": results}), what)
    found = [load_result(folder) for folder in folders]
    if json:
        print_json({"attempts": [result.model_dump(mode="json", by_alias=True) for result in found]})
    elif len(found) == 1:
        print_view(summary(found[0], folders[0]))
    else:
        print_view(results_table(found))
