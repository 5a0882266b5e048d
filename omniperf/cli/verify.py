"""`omniperf verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omniperf.cli.options import JsonFlag, RequireFlag, VersusHumanFlag, new_app, with_settings

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.sweep.remeasure import Found

app = new_app()


@app.command()
@with_settings()
def verify(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT", help="With --patch, a task. Else attempts, as `show` takes them: measured again."
        ),
    ] = None,
    patch: Annotated[Path | None, typer.Option("--patch", help="The diff to measure, against the task's base.")] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", metavar="FILE", help="Measure every patch of a predictions.jsonl.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Keep verdicts there; those that it has are not measured again."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Measure an attempt even if its task or patch has changed since.")
    ] = False,
    versus_human: VersusHumanFlag = False,
    require: RequireFlag = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Append every measured pair to this .jsonl file.")
    ] = None,
    json: JsonFlag = False,
    *,
    settings: "Settings",
) -> None:
    """Measure what a patch is worth, or attempts and predictions again."""
    from collections.abc import Mapping

    from omniperf.cli.output import print_json, print_view
    from omniperf.report.escape import plain
    from omniperf.report.progress import progress
    from omniperf.report.terminal import verdict_view, verifications_table
    from omniperf.results.store import append_line, check_folders, check_output
    from omniperf.sweep.remeasure import verify_claims

    check_output(out, "--out", folder=True)
    check_output(record, "--record")
    claims, problems = _claims(settings, what, patch, predictions, force=force)
    check_folders(settings)

    def keep(line: Mapping[str, object]) -> None:
        if record is not None:
            append_line(record, line)

    with progress() as emit:
        found, failed = verify_claims(claims, settings, emit, keep, versus_human=versus_human, out=out)
    problems += failed
    if predictions is None and len(found) + len(problems) == 1 and problems:
        raise problems[0]
    if json:
        dumped = [one.model_dump(mode="json", by_alias=True) for one in found]
        print_json(dumped[0]["verdict"] if patch is not None and dumped else dumped)
    elif len(found) == 1:
        print_view(verdict_view(found[0].verdict))
    elif found:
        print_view(verifications_table(found))
    for problem in problems:
        typer.echo(f"error: {plain(str(problem))}", err=True)
    if problems:
        raise typer.Exit(1)
    if require is not None and any(one.verdict.class_ != require for one in found):
        typer.echo(f"gate not met: {require} was required", err=True)
        raise typer.Exit(3)


def _claims(
    settings: "Settings", what: str | None, patch: Path | None, predictions: Path | None, *, force: bool
) -> "Found":
    """What is asked for, in whichever of the three ways."""
    from omniperf.errors import UsageError
    from omniperf.results.store import find_attempts
    from omniperf.sweep.remeasure import Claim, claims_of_attempts, claims_of_predictions
    from omniperf.tasks.load import load_task

    if predictions is not None and what is None and patch is None:
        return claims_of_predictions(predictions, settings)
    if what is None or predictions is not None:
        raise UsageError(
            "Name one thing to verify.", "Give TASK --patch FILE, or attempts as `show` takes them, or --predictions."
        )
    if patch is None:
        return claims_of_attempts(find_attempts(settings, what), settings, force=force)
    try:
        data = patch.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The patch {patch} cannot be read ({error.strerror}).", "Give an existing diff file."
        ) from None
    return [Claim("", load_task(what, settings), patch.name, data)], []
