"""The flags that several commands share, and the Typer app that each command's module starts from."""

from pathlib import Path
from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ResultsFlag = Annotated[
    Path | None, typer.Option("--results", metavar="FOLDER", help="Where results are.", show_default=False)
]
WorktreesFlag = Annotated[
    Path | None, typer.Option("--worktrees", metavar="FOLDER", help="Where worktrees are made.", show_default=False)
]
CacheFlag = Annotated[
    Path | None, typer.Option("--cache", metavar="FOLDER", help="Where repositories are kept.", show_default=False)
]
MirrorFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--mirror",
        metavar="FOLDER",
        help="Look for repositories here first; also a template with {host} {owner} {name}. May be given again.",
        show_default=False,
    ),
]
SandboxFlag = Annotated[
    str | None,
    typer.Option("--sandbox", metavar="auto|bubblewrap|docker|podman|none", help="What agents and workloads run in."),
]

JobsFlag = Annotated[
    int, typer.Option("--jobs", min=0, help="Attempts at once; 0: eight for every core.", show_default=False)
]


def _verdict_class(wanted: str | None) -> str | None:
    if wanted is not None:
        from typing import get_args

        from omniperf.errors import UsageError
        from omniperf.results.schema import VerdictClass

        if wanted not in get_args(VerdictClass):
            raise UsageError(f"There is no verdict class {wanted!r}.", f"One of: {', '.join(get_args(VerdictClass))}.")
    return wanted


RequireFlag = Annotated[
    str | None,
    typer.Option(
        "--require",
        metavar="CLASS",
        help="Exit 3 unless every verdict is of this class.",
        callback=_verdict_class,
        show_default=False,
    ),
]
VersusHumanFlag = Annotated[bool, typer.Option("--versus-human", help="Measure against the human patch too.")]
HintsFlag = Annotated[bool, typer.Option("--hints/--no-hints", help="Show the task's hints to the agent.")]
TemplateFlag = Annotated[
    str | None,
    typer.Option(
        "--template", metavar="NAME", help="The prompt's: optimize (the default), gso or guided.", show_default=False
    ),
]
TasksFlag = Annotated[
    Path | None, typer.Option("--tasks", metavar="FOLDER", help="Where your tasks are.", show_default=False)
]


def new_app(summary: str | None = None) -> typer.Typer:
    """Return an empty Typer app in the one style: plain help, no pretty exceptions. A group gives its summary."""
    app = typer.Typer(
        help=summary,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    if summary is not None:  # a callback makes it a group, even with one command
        app.callback(no_args_is_help=True, help=summary)(lambda: None)
    return app
