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
    from omniperf.report.imported_view import imported_view
    from omniperf.report.terminal import results_table, summary
    from omniperf.results.schema import Imported
    from omniperf.results.store import IMPORTED, RESULT, find_attempts, load_record, load_result
    from omniperf.settings import load_settings

    folders = find_attempts(load_settings({"results": results}), what, (RESULT, IMPORTED))
    made = [folder for folder in folders if not (folder / IMPORTED).is_file()]
    imported = [(folder, load_record(folder / IMPORTED, Imported)) for folder in folders if folder not in made]
    found = [load_result(folder) for folder in made]
    if json:
        records = [*found, *(record for _, record in imported)]
        print_json({"attempts": [record.model_dump(mode="json", by_alias=True) for record in records]})
        return
    if len(found) == 1:
        print_view(summary(found[0], made[0]))
    elif found:
        print_view(results_table(found))
    if imported:
        print_view(imported_view(imported))
