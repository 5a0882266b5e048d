"""`omniperf doctor`."""

import typer

from omniperf.cli.options import CacheFlag, JsonFlag, ResultsFlag, WorktreesFlag, new_app

app = new_app()


@app.command()
def doctor(
    results: ResultsFlag = None, worktrees: WorktreesFlag = None, cache: CacheFlag = None, json: JsonFlag = False
) -> None:
    """Check that this host can run and measure tasks.

    Each line is ok, info, warn or FAIL, with what to do about it; exits with 1 when one is FAIL.
    """
    from dataclasses import asdict

    from omniperf.cli.output import print_json, print_view
    from omniperf.measure.doctor import checks
    from omniperf.settings import load_settings

    found = checks(load_settings({"results": results, "worktrees": worktrees, "cache": cache}))
    if json:
        print_json([asdict(check) for check in found])
    else:
        from omniperf.report.terminal import checks_view

        print_view(checks_view((check.status, check.name, check.detail, check.remedy) for check in found))
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)
