"""`omniperf verify`."""

from pathlib import Path
from typing import Annotated

import typer

from omniperf.cli.options import (
    CacheFlag,
    JsonFlag,
    MirrorFlag,
    RequireFlag,
    SandboxFlag,
    TasksFlag,
    VersusHumanFlag,
    WorktreesFlag,
    new_app,
)

app = new_app()


@app.command()
def verify(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task's id, its folder, or its task.yaml.")],
    patch: Annotated[Path, typer.Option("--patch", help="The diff to measure, against the task's base.")],
    versus_human: VersusHumanFlag = False,
    require: RequireFlag = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Append every measured pair to this .jsonl file.")
    ] = None,
    worktrees: WorktreesFlag = None,
    cache: CacheFlag = None,
    mirror: MirrorFlag = None,
    sandbox: SandboxFlag = None,
    tasks: TasksFlag = None,
    json: JsonFlag = False,
) -> None:
    """Measure what a patch is worth."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.errors import UsageError
    from omniperf.measure.bench import open_bench
    from omniperf.report.progress import progress
    from omniperf.report.terminal import verdict_view
    from omniperf.results.store import append_line, check_folders
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task
    from omniperf.verify.preflight import preflight
    from omniperf.verify.verdict import verify_patch

    try:
        data = patch.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The patch {patch} cannot be read ({error.strerror}).", "Give an existing diff file."
        ) from None
    settings = load_settings(
        {"worktrees": worktrees, "cache": cache, "mirrors": mirror or None, "sandbox": sandbox, "tasks": tasks}
    )
    check_folders(settings)
    with progress() as emit:
        bench = open_bench(load_task(task, settings), settings, emit, may_fall_back=False)
        proved = preflight(bench, emit)

        def keep(line: object) -> None:
            if record is not None:
                append_line(record, dict(line))  # type: ignore[call-overload]

        verdict = verify_patch(bench, data, proved, keep, emit, versus_human=versus_human)
    if json:
        print_json(verdict.model_dump(mode="json", by_alias=True))
    else:
        print_view(verdict_view(verdict))
    if require is not None and verdict.class_ != require:
        typer.echo(f"gate not met: {require} was required", err=True)
        raise typer.Exit(3)
