"""`omniperf run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omniperf.cli.options import (
    HintsFlag,
    JsonFlag,
    RequireFlag,
    TemplateFlag,
    VersusHumanFlag,
    new_app,
    with_settings,
)  # fmt: skip

if TYPE_CHECKING:
    from omniperf.settings import Settings

app = new_app()


@app.command()
@with_settings()
def run(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task's id, its folder, or its task.yaml.")],
    agent: Annotated[str, typer.Option("--agent", help="Who optimizes; see `omniperf agents`.")] = "pattern",
    attempts: Annotated[int, typer.Option("--attempts", min=1, help="How often, each from a fresh workspace.")] = 1,
    patch: Annotated[Path | None, typer.Option("--patch", help="The diff that the agent `patch` applies.")] = None,
    replayed: Annotated[
        Path | None, typer.Option("--from", help="The attempt's folder that the agent `replay` runs again.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model of an agent that has one.")] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Another server that speaks the agent's API.")
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(
            "--api", metavar="anthropic|responses|chat", help="Which API the agent uses, where it can use several."
        ),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Prices of models, over those known.")
    ] = None,
    max_output: Annotated[
        int | None, typer.Option("--max-output", metavar="TOKENS", help="The longest reply of a model.")
    ] = None,
    context: Annotated[
        int | None, typer.Option("--context", metavar="TOKENS", help="The model's window, where it is not known.")
    ] = None,
    effort: Annotated[
        str | None, typer.Option("--effort", metavar="low|medium|high", help="How much a model thinks.")
    ] = None,
    native_tools: Annotated[
        bool, typer.Option("--native-tools", help="Give Anthropic's models the editor that they were trained on.")
    ] = False,
    hints: HintsFlag = True,
    template: TemplateFlag = None,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Run even if the prompt gives the solution away; the result says so.")
    ] = False,
    versus_human: VersusHumanFlag = False,
    require: RequireFlag = None,
    keep: Annotated[bool, typer.Option("--keep-workspace", help="Leave the attempt's worktree behind.")] = False,
    json: JsonFlag = False,
    *,
    settings: "Settings",
) -> None:
    """Let an agent work on a task, and measure what its patch is worth."""
    from hashlib import sha256

    from omniperf.cli.output import print_json, print_view
    from omniperf.errors import UsageError
    from omniperf.prompt.render import DEFAULT
    from omniperf.record import AttemptSpec
    from omniperf.report.progress import progress
    from omniperf.report.terminal import results_table, summary
    from omniperf.sweep.run import run_task
    from omniperf.tasks.load import load_task

    if (agent == "patch") != (patch is not None):
        raise UsageError("--patch and --agent patch go together.", "Give both or neither.")
    if patch is not None and not patch.is_file():
        raise UsageError(f"The patch {patch} is not a file.", "Give an existing diff file.")
    named = {"model": model, "base_url": base_url, "api": api, "prices": prices, "max_output": max_output}
    named |= {"context": context, "effort": effort, "native_tools": native_tools or None}
    options = {name: str(value) for name, value in named.items() if value is not None}
    if patch is not None:
        options |= {"file": str(patch), "sha256": sha256(patch.read_bytes()).hexdigest()}
    if replayed is not None:
        options["from"] = str(replayed)
    spec = AttemptSpec(
        run_id="",
        agent=agent,
        n=0,
        options=options,
        template=template or DEFAULT,
        hints=hints,
        versus_human=versus_human,
        keep_workspace=keep,
        allow_leak=allow_leak,
    )
    with progress() as emit:
        folder, found = run_task(load_task(task, settings), spec, attempts, settings, emit)
    if json:
        attempts_made = [result.model_dump(mode="json", by_alias=True) for result in found]
        print_json({"run_id": folder.name, "folder": str(folder), "attempts": attempts_made})
    elif len(found) == 1:
        print_view(summary(found[0], folder / found[0].identity.task_id / f"{agent}.1"))
    else:
        print_view(results_table(found))
    failed = [result.outcome.kind in ("infra_error", "harness_error") for result in found]
    if replayed is not None:
        from omniperf.agents.arms.replay import DIVERGED

        failed += [DIVERGED in result.outcome.detail for result in found]
    if any(failed):
        raise typer.Exit(1)
    if require is not None and any(result.verdict.class_ != require for result in found):
        typer.echo(f"gate not met: {require} was required", err=True)
        raise typer.Exit(3)
