"""`omniperf prompt`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from omniperf.cli.options import CacheFlag, HintsFlag, JsonFlag, MirrorFlag, TasksFlag, TemplateFlag, new_app

app = new_app("Show the prompt of a task, and check what it gives away.")

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A task's name, or the path of its file or folder.")]


@app.command()
def show(
    task: TaskArgument,
    template: TemplateFlag = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", metavar="PATH", help="The checkout's folder, as the prompt calls it.")
    ] = None,
    hints: HintsFlag = True,
    raw: Annotated[bool, typer.Option("--raw", help="The prompt's own bytes and nothing else.")] = False,
    tasks: TasksFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show a task's prompt as an agent gets it. Never refuses, whatever the prompt gives away."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.errors import UsageError
    from omniperf.prompt.render import WORKSPACE, own_template, render
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task

    if raw and json:
        raise UsageError("--raw and --json exclude each other.", "Give one of them.")
    found = load_task(task, load_settings({"tasks": tasks}))
    prompt = render(found, template or own_template(found), hints=hints, workspace=str(workspace or WORKSPACE))
    if raw:
        sys.stdout.buffer.write(prompt.data)
        sys.stdout.buffer.flush()
        return
    if json:
        about = {"template": prompt.template, "template_sha256": prompt.template_sha256, "sha256": prompt.sha256}
        print_json({"task": found.id, **about, "hints": hints, "prompt": prompt.text})
        return
    from omniperf.report.prompt_view import prompt_view

    print_view(prompt_view(found, prompt.template, prompt.sha256, prompt.text))


@app.command()
def check(
    task: TaskArgument,
    template: TemplateFlag = None,
    hints: HintsFlag = True,
    tasks: TasksFlag = None,
    cache: CacheFlag = None,
    mirror: MirrorFlag = None,
    json: JsonFlag = False,
) -> None:
    """Check what a task's prompt gives away.

    Exit 3 where it shares anything with the human patch, its message, statistics or sha, or has text of another
    repository. `omniperf run` refuses such a prompt.
    """
    from omniperf.cli.output import print_json, print_view
    from omniperf.prompt.render import own_template, render
    from omniperf.results.store import check_folders
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task
    from omniperf.verify.leaks import check_of
    from omniperf.workspace.source import resolve_source

    settings = load_settings({"tasks": tasks, "cache": cache, "mirrors": mirror or None})
    check_folders(settings, ("cache",))
    found = load_task(task, settings)
    prompt = render(found, template or own_template(found), hints=hints)
    source = None if found.prompt_only else resolve_source(found, settings)
    checked = check_of(found, prompt, source, settings)
    if json:
        about = {"template": prompt.template, "template_sha256": prompt.template_sha256, "sha256": prompt.sha256}
        print_json({"task": found.id, **about, "hints": hints, **checked.model_dump(mode="json")})
    else:
        from omniperf.report.prompt_view import check_view

        print_view(check_view(found.id, prompt.template, checked))
    if checked.blocks:
        raise typer.Exit(3)
