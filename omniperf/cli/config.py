"""`omniperf config`."""

from typing import Annotated

import typer

from omniperf.cli.options import (
    CacheFlag,
    JsonFlag,
    MirrorFlag,
    ResultsFlag,
    SandboxFlag,
    TasksFlag,
    WorktreesFlag,
    new_app,
)

app = new_app("Show the settings in force and where they come from.")


@app.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each setting comes from.")] = False,
    results: ResultsFlag = None,
    worktrees: WorktreesFlag = None,
    cache: CacheFlag = None,
    mirror: MirrorFlag = None,
    sandbox: SandboxFlag = None,
    tasks: TasksFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show the settings in force.

    Each setting comes from the last of these that names it: the default, ~/.config/omniperf/config.toml, the nearest
    omniperf.toml, the environment (OMNIPERF_RESULTS and so on), a flag.
    """
    from omniperf.cli.output import print_json
    from omniperf.settings import load_settings

    overrides = {"results": results, "worktrees": worktrees, "cache": cache, "sandbox": sandbox, "tasks": tasks}
    settings = load_settings({**overrides, "mirrors": mirror or None})
    values = {key: getattr(settings, key) for key in settings.origins}
    if json:
        plain = {
            key: list(value) if isinstance(value, tuple) else value and str(value) for key, value in values.items()
        }
        print_json(
            {key: {"value": value, "origin": settings.origins[key]} for key, value in plain.items()}
            if origin
            else plain
        )
        return
    for key, value in values.items():
        shown = (":".join(value) if isinstance(value, tuple) else str(value or "")) or "(none)"
        typer.echo(f"{key:<10} {shown}" + (f"    ({settings.origins[key]})" if origin else ""))
