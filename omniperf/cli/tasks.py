"""`omniperf tasks`."""

from pathlib import Path
from typing import Annotated

import typer

from omniperf.cli.options import CacheFlag, JsonFlag, MirrorFlag, SandboxFlag, TasksFlag, new_app

app = new_app("List, show, check and start tasks.")

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A task's name, or the path of its file or folder.")]


@app.command("list")
def list_(tasks: TasksFlag = None, json: JsonFlag = False) -> None:
    """List the tasks that can be named."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.settings import load_settings
    from omniperf.tasks.load import list_tasks

    entries = list_tasks(load_settings({"tasks": tasks}))
    if json:
        print_json(
            [
                {
                    "name": entry.name,
                    "path": str(entry.path),
                    "origin": entry.origin,
                    "title": entry.task.title if entry.task else None,
                    "tags": entry.task.tags if entry.task else [],
                    "prompt_only": entry.task.prompt_only if entry.task else None,
                    "error": entry.error or None,
                }
                for entry in entries
            ]
        )
        return
    from omniperf.report.terminal import table

    rows = [
        [
            entry.name,
            entry.task.title if entry.task else f"broken: {entry.error}",
            ", ".join(("prompt-only",) * entry.task.prompt_only + entry.task.tags) if entry.task else "",
            entry.origin,
        ]
        for entry in entries
    ]
    print_view(table(["task", "title", "tags", "from"], rows, whole=["task", "from"]))


@app.command()
def show(task: TaskArgument, tasks: TasksFlag = None, json: JsonFlag = False) -> None:
    """Show a task as OmniPerf understands it, defaults included."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task, task_sha256, workload_kind

    found = load_task(task, load_settings({"tasks": tasks}))
    kind = workload_kind(found) if found.workload else None
    if json:
        facts = {"folder": str(found.folder), "sha256": task_sha256(found), "workload_kind": kind}
        print_json({"task": found.model_dump(mode="json", by_alias=True), **facts})
        return
    from omniperf.report.task_view import task_view

    print_view(task_view(found, task_sha256(found), kind))


@app.command()
def validate(
    task: TaskArgument,
    tasks: TasksFlag = None,
    cache: CacheFlag = None,
    mirror: MirrorFlag = None,
    sandbox: SandboxFlag = None,
    json: JsonFlag = False,
) -> None:
    """Check a task against its real repository.

    Base and human commit exist, targets match, the workload runs and reaches a target, the tests pass.
    """
    from dataclasses import asdict

    from omniperf.cli.output import print_json, print_view
    from omniperf.report.progress import progress
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task
    from omniperf.verify.validate import validate_task

    settings = load_settings({"tasks": tasks, "cache": cache, "mirrors": mirror or None, "sandbox": sandbox})
    with progress() as emit:
        found = validate_task(load_task(task, settings), settings, emit)
    if json:
        print_json([asdict(check) for check in found])
    else:
        from omniperf.report.terminal import checks_view

        print_view(
            checks_view(("ok" if check.ok else "fail", check.name, check.detail, check.remedy) for check in found)
        )
    if not all(check.ok for check in found):
        raise typer.Exit(1)


@app.command()
def new(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The new task's id, and the name of its folder.")],
    repo: Annotated[
        Path | None, typer.Option("--repo", metavar="FOLDER", help="A local git repository: start from its HEAD.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", metavar="module|command|service", help="What its workload is.")
    ] = "module",
    tasks: TasksFlag = None,
    json: JsonFlag = False,
) -> None:
    """Start a task: a commented task.yaml and what its workload needs."""
    from omniperf.cli.output import print_json
    from omniperf.settings import load_settings
    from omniperf.tasks.new import new_task

    written = new_task(load_settings({"tasks": tasks}).tasks / task_id, task_id, repo, kind)
    if json:
        print_json({"written": [str(path) for path in written]})
        return
    for path in written:
        typer.echo(f"wrote {path}")
    typer.echo(f"Fill in, then: omniperf tasks validate {task_id}")
