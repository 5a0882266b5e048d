"""`omniperf tasks`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omniperf.cli.options import CacheFlag, JsonFlag, MirrorFlag, SandboxFlag, TasksFlag, WorktreesFlag, new_app

if TYPE_CHECKING:
    from omniperf.results.certificate import Certificate, Standing

app = new_app("List, show, check and start tasks.")

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A task's name, or the path of its file or folder.")]


@app.command("list")
def list_(tasks: TasksFlag = None, json: JsonFlag = False) -> None:
    """List the tasks that can be named, and what their certificates say."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.measure.host import host_id
    from omniperf.results.certificate import certificates_of
    from omniperf.settings import load_settings
    from omniperf.tasks.load import list_tasks

    entries = list_tasks(load_settings({"tasks": tasks}))
    certificates = {entry.name: certificates_of(entry.task, host_id()) if entry.task else [] for entry in entries}
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
                    "certificates": _certificates_json(certificates[entry.name]),
                }
                for entry in entries
            ]
        )
        return
    from omniperf.report.certificate_view import TasksTable, badge

    rows = [
        [
            entry.name,
            entry.task.title if entry.task else f"broken: {entry.error}",
            badge(certificates[entry.name]),
            ", ".join(("prompt-only",) * entry.task.prompt_only + entry.task.tags) if entry.task else "",
            entry.origin,
        ]
        for entry in entries
    ]
    print_view(TasksTable(rows))


@app.command()
def show(task: TaskArgument, tasks: TasksFlag = None, json: JsonFlag = False) -> None:
    """Show a task as OmniPerf understands it, defaults included."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.measure.host import host_id
    from omniperf.results.certificate import certificates_of
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task, task_sha256, workload_kind

    found = load_task(task, load_settings({"tasks": tasks}))
    kind = workload_kind(found) if found.workload else None
    certificates = certificates_of(found, host_id())
    if json:
        facts = {
            "folder": str(found.folder),
            "sha256": task_sha256(found),
            "workload_kind": kind,
            "certificates": _certificates_json(certificates),
        }
        print_json({"task": found.model_dump(mode="json", by_alias=True), **facts})
        return
    from omniperf.report.certificate_view import certificate_line
    from omniperf.report.task_view import task_view

    lines = [certificate_line(standing, certificate) for standing, certificate in certificates]
    print_view(task_view(found, task_sha256(found), kind, lines))


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
    from omniperf.results.store import check_folders
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task
    from omniperf.verify.validate import validate_task

    settings = load_settings({"tasks": tasks, "cache": cache, "mirrors": mirror or None, "sandbox": sandbox})
    check_folders(settings, ("cache",))
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
def certify(
    task: TaskArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Write to FOLDER/TASK/certificates instead of beside the task."),
    ] = None,
    fixed_pairs: Annotated[
        int | None,
        typer.Option("--fixed-pairs", metavar="N", min=2, help="Measure the human patch with exactly N pairs, too."),
    ] = None,
    measurements: Annotated[
        Path | None, typer.Option("--measurements", metavar="FILE", help="Append a line to FILE for every pair.")
    ] = None,
    tasks: TasksFlag = None,
    worktrees: WorktreesFlag = None,
    cache: CacheFlag = None,
    mirror: MirrorFlag = None,
    sandbox: SandboxFlag = None,
    json: JsonFlag = False,
) -> None:
    """Let a task test itself on this host, and store the certificate.

    Outputs repeat, tests pass, the noise is small enough, a comment is no change, and what the human patch is worth.
    """
    from omniperf.cli.output import print_json, print_view
    from omniperf.report.progress import progress
    from omniperf.results.store import append_line, check_folders, check_output
    from omniperf.settings import load_settings
    from omniperf.tasks.load import load_task
    from omniperf.verify.certify import certify as certify_task

    settings = load_settings(
        {"tasks": tasks, "worktrees": worktrees, "cache": cache, "mirrors": mirror or None, "sandbox": sandbox}
    )
    check_folders(settings, ("worktrees", "cache"))
    check_output(measurements, "--measurements")
    with progress() as emit:
        test = certify_task(
            load_task(task, settings), settings, emit, out=out, fixed_pairs=fixed_pairs,
            record=lambda line: append_line(measurements, line) if measurements else None,
        )  # fmt: skip
    if json:
        found = test.certificate.model_dump(mode="json", by_alias=True) if test.certificate else None
        steps = [step.model_dump(mode="json") for step in test.steps]
        print_json({"steps": steps, "certificate": found, "file": str(test.file) if test.file else None})
    else:
        from omniperf.report.certificate_view import certificate_line, self_test_view

        said = "refused: no certificate was written"
        if any(step.name == "noise floor" for step in test.steps):
            again = f"measure it again with `omniperf calibrate {task}`"
            said += f"\nThe noise floor holds for later verdicts of this task all the same: kept 30 days; {again}."
        if test.certificate is not None:
            said = f"certified: {certificate_line('here', test.certificate)}\n{test.file}"
        print_view(self_test_view(test.steps, said))
    if test.certificate is None:
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


def _certificates_json(found: "list[tuple[Standing, Certificate]]") -> list[dict[str, object]]:
    return [{"standing": standing, **one.model_dump(mode="json", by_alias=True)} for standing, one in found]
