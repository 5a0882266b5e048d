"""`omniperf calibrate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from omniperf.cli.options import JsonFlag, new_app, with_settings

if TYPE_CHECKING:
    from omniperf.settings import Settings

app = new_app()


@app.command()
@with_settings("worktrees", "cache", "mirror", "sandbox", "tasks")
def calibrate(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="A task's name, folder or file; without it, quickstart.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every listed task that can run here.")] = False,
    json: JsonFlag = False,
    *,
    settings: "Settings",
) -> None:
    """Measure the noise of this host.

    Base is measured against a second tree of base. The noise floor is kept for 30 days; while it is, no verdict of that
    task on this host claims an effect that is not surely beyond it.
    """
    from omniperf.cli.output import print_json, print_view
    from omniperf.errors import UsageError
    from omniperf.report.progress import progress
    from omniperf.results.store import check_folders
    from omniperf.tasks.load import load_task
    from omniperf.verify.calibrate import calibrate_all, calibrate_task

    if task and all_:
        raise UsageError(f"{task} is one task, --all means every one.", "Give one of the two.")
    check_folders(settings, ("worktrees", "cache"))
    with progress() as emit:
        if all_:
            found, skipped = calibrate_all(settings, emit)
        else:
            found, skipped = [calibrate_task(load_task(task or "quickstart", settings), settings, emit)], {}
    if json:
        print_json({"calibrated": [one.model_dump(mode="json") for one in found], "skipped": skipped})
        return
    from omniperf.report.certificate_view import calibrations_view

    print_view(calibrations_view(found, skipped))
    if not task and not all_:
        print_view("\nOther tasks have other noise: `omniperf calibrate TASK`, or --all for every one that can run.")
