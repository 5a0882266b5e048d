"""`omniperf resume`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omniperf.cli.options import JobsFlag, JsonFlag, new_app, with_settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from omniperf.results.events import Emit
    from omniperf.settings import Settings
    from omniperf.sweep.scheduler import Progress

app = new_app()


@app.command()
@with_settings()
def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The sweep: its id, a prefix of it, or `latest`.")],
    usd: Annotated[
        float | None, typer.Option("--usd", min=0, help="What the whole sweep may cost, in place of what it might.")
    ] = None,
    jobs: JobsFlag = 0,
    json: JsonFlag = False,
    *,
    settings: "Settings",
) -> None:
    """Go on with a sweep that was interrupted or killed.

    Exactly what is unfinished is done; a patch that was collected is only measured.
    """
    from omniperf.sweep.sweep import resume_sweep

    folder, stands = resume_sweep(run, jobs, settings, live_view, usd)
    conclude(folder, stands, json=json)


def live_view(folder: Path) -> "AbstractContextManager[Emit]":
    """What is shown of a sweep while it runs."""
    from omniperf.report.sweep import live
    from omniperf.sweep.state import Watched

    return live(lambda: Watched(folder).look)


def conclude(folder: Path, stands: "Progress", *, json: bool) -> None:
    """Say what a sweep came to. Exits with 1 where something is unfinished, 130 where it was interrupted."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.report.sweep import sweep_summary
    from omniperf.sweep.plan import read_plan

    plan = read_plan(folder)
    left = len(plan.attempts) - stands.done
    if json:
        about = {"run_id": folder.name, "folder": str(folder), "finished": stands.done, "unfinished": left}
        print_json({**about, "usd": stands.spent, "verdicts": dict(stands.verdicts), "stopped": stands.stopped})
    else:
        said = sweep_summary(
            folder.name, len(plan.attempts), stands.done, stands.verdicts, stands.spent, stands.stopped
        )
        print_view(said)
    if stands.stopped == "interrupted":
        raise typer.Exit(130)
    if left:
        raise typer.Exit(1)
