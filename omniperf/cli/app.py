"""The tree of commands. Only the command that is called is imported, so that start-up stays short."""

import sys
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import omniperf

COMMANDS = {
    "run": "Let an agent work on a task, and measure what its patch is worth.",
    "sweep": "Let agents work on many tasks, many at once.",
    "resume": "Go on with a sweep that was interrupted or killed.",
    "watch": "Watch a sweep that runs somewhere.",
    "verify": "Measure what a patch is worth, or attempts and predictions again.",
    "compare": "Say whether two measurements of the same patches agree.",
    "import": "Read what clients wrote in runs that nobody measured.",
    "show": "Show results: an attempt, a run, or the latest run of a task.",
    "diff": "Show the patch of an attempt.",
    "tasks": "List, show, check and start tasks.",
    "prompt": "Show the prompt of a task, and check what it gives away.",
    "agents": "List the agents that can be run.",
    "calibrate": "Measure the noise of this host.",
    "doctor": "Check that this host can run and measure tasks.",
    "clean": "Delete what killed sweeps left behind.",
    "config": "Show the settings in force and where they come from.",
}
"""Each command's name and its line in the help. Its module, `omniperf.cli.NAME` (`import_`), defines `app`."""


class _Commands(TyperGroup):
    """The commands of the table, each imported when it is called; the help is made from the table alone."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        found = get_command(import_module(f"omniperf.cli.{cmd_name}{'_' * iskeyword(cmd_name)}").app)
        found.name = cmd_name
        return found

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command() -> Any:
    """Return the whole command line, ready to be called with arguments."""
    sys.excepthook = sys.__excepthook__  # Typer sets its own
    return get_command(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"omniperf {omniperf.__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Agents make real code faster; OmniPerf measures whether they did.

    Start with `omniperf run quickstart`, and `omniperf doctor` where something is missing.
    """
    del version, debug  # acted upon before this is called
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
