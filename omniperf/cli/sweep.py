"""`omniperf sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omniperf.cli.options import JobsFlag, JsonFlag, new_app, with_settings

if TYPE_CHECKING:
    from omniperf.settings import Settings

app = new_app()


@app.command()
@with_settings()
def sweep(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A sweep file; or say it with --task and --agent.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="A task, a glob over names, or tag:NAME. May be given again.", show_default=False),
    ] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option("--agent", metavar="AGENT[:MODEL]", help="May be given again.", show_default=False),
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", min=1, max=1000, help="Of each agent on each task.")
    ] = None,
    strategy: Annotated[
        Literal["independent", "refine"] | None,
        typer.Option("--strategy", help="refine: each attempt goes on from the best verified patch before it."),
    ] = None,
    usd: Annotated[float | None, typer.Option("--usd", min=0, help="What the whole sweep may cost.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the order.")] = None,
    jobs: JobsFlag = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and do nothing.")] = False,
    json: JsonFlag = False,
    *,
    settings: "Settings",
) -> None:
    """Let agents work on many tasks, many at once.

    Only what is timed waits for its turn. What is interrupted or killed goes on with `omniperf resume`.
    """
    from omniperf.cli.output import print_json, print_view
    from omniperf.cli.resume import conclude, live_view
    from omniperf.errors import UsageError
    from omniperf.report.sweep import plan_table
    from omniperf.sweep.spec import load_sweep, sweep_of
    from omniperf.sweep.sweep import dry_run as planned_only
    from omniperf.sweep.sweep import new_sweep

    if (file is None) == (not task and not agent):
        raise UsageError("A sweep needs a file, or --task and --agent.", "Give one or the other.")
    if file is not None:
        planned = load_sweep(file)
    else:
        if not task or not agent:
            raise UsageError("A sweep needs both --task and --agent.", "Give each at least once.")
        planned = sweep_of(task, agent)
    given = {"attempts": attempts, "strategy": strategy, "usd": usd, "seed": seed}
    planned = planned.model_copy(update={key: value for key, value in given.items() if value is not None})
    if dry_run:
        plan = planned_only(planned, settings)
        if json:
            print_json(plan.model_dump(mode="json", by_alias=True))
        else:
            rows = ((one.task, one.label, one.n, one.usd) for one in plan.attempts)
            print_view(plan_table(rows, plan.most_usd))
        return
    folder, stands = new_sweep(planned, jobs, settings, live_view)
    conclude(folder, stands, json=json)
