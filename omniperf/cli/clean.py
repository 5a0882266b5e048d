"""`omniperf clean`."""

import typer

from omniperf.cli.options import CacheFlag, JsonFlag, ResultsFlag, WorktreesFlag, new_app

app = new_app()


@app.command()
def clean(
    results: ResultsFlag = None, worktrees: WorktreesFlag = None, cache: CacheFlag = None, json: JsonFlag = False
) -> None:
    """Delete what killed sweeps left behind.

    That is their worktrees; results stay.
    """
    from omniperf.cli.output import print_json
    from omniperf.settings import load_settings
    from omniperf.sweep import sweep

    gone = sweep.clean(load_settings({"results": results, "worktrees": worktrees, "cache": cache}))
    if json:
        print_json([str(path) for path in gone])
    else:
        for path in gone:
            typer.echo(f"deleted {path}")
