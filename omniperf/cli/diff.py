"""`omniperf diff`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omniperf.cli.options import CacheFlag, JsonFlag, MirrorFlag, ResultsFlag, TasksFlag, new_app
from omniperf.errors import UsageError

if TYPE_CHECKING:
    from omniperf.results.schema import Result
    from omniperf.settings import Settings

app = new_app()


@app.command()
def diff(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="An attempt: a run, a task's id, RUN/TASK/LABEL.N, or a path.")
    ] = "latest",
    stat: Annotated[bool, typer.Option("--stat", help="Only the files and how many lines changed in each.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The patch's own bytes, for `git apply`.")] = False,
    human: Annotated[bool, typer.Option("--human", help="Beside the human patch of the task.")] = False,
    results: ResultsFlag = None,
    tasks: TasksFlag = None,
    cache: CacheFlag = None,
    mirror: MirrorFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show the patch of an attempt."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.report import diff as view
    from omniperf.results.store import load_result, read_plain
    from omniperf.settings import load_settings

    if stat + raw + human + json > 1:
        raise UsageError("--stat, --raw, --human and --json exclude each other.", "Give one of them.")
    settings = load_settings({"results": results, "tasks": tasks, "cache": cache, "mirrors": mirror or None})
    folder = _attempt(settings, what)
    result = load_result(folder)
    file = folder / "model_patch.diff"
    patch = read_plain(file) if os.path.lexists(file) else b""
    if raw:
        sys.stdout.buffer.write(patch)
        sys.stdout.buffer.flush()
    elif json:
        info = result.patch.model_dump(mode="json") if result.patch else None
        print_json({"folder": str(folder), "info": info, "patch": patch.decode("utf-8", "surrogateescape")})
    elif not patch:
        print_view(f"{what}: the attempt changed nothing ({result.verdict.class_}).")
    elif human:
        print_view(view.side_by_side(patch, _human_patch(result, settings)))
    else:
        print_view(view.stat(patch, result.patch) if stat else view.coloured(patch), wrap=stat)


def _attempt(settings: "Settings", what: str) -> Path:
    from omniperf.results.store import find_attempts

    folders = find_attempts(settings, what)
    if len(folders) > 1:
        names = [f"{folder.parent.parent.name}/{folder.parent.name}/{folder.name}" for folder in folders[:4]]
        more = ", ..." if len(folders) > 4 else ""
        raise UsageError(f"{what!r} means {len(folders)} attempts.", f"Name one: {', '.join(names)}{more}.")
    return folders[0]


def _human_patch(result: "Result", settings: "Settings") -> bytes:
    from omniperf.tasks.load import load_task, task_sha256
    from omniperf.workspace.source import human_patch, resolve_source

    task = load_task(result.identity.task_id, settings)
    found = human_patch(task, resolve_source(task, settings))
    if found is None:
        raise UsageError(f"Task {task.id} has no human patch.", "See the attempt's own patch without --human.")
    if task_sha256(task) != result.identity.task_sha256:
        typer.echo(f"note: task {task.id} has changed since this attempt.", err=True)
    return found
