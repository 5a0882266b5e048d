"""The flags that several commands share, and the Typer app that each command's module starts from."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

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

_SETTINGS = {
    "results": ResultsFlag,
    "worktrees": WorktreesFlag,
    "cache": CacheFlag,
    "mirror": MirrorFlag,
    "sandbox": SandboxFlag,
    "tasks": TasksFlag,
}


def with_settings(*flags: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of those settings, all without any; it is called with the `settings` that they make."""

    def given_to(command: Callable[..., None]) -> Callable[..., None]:
        chosen = flags or tuple(_SETTINGS)

        def called(**given: Any) -> None:
            from omniperf.settings import load_settings

            overrides = {name: given.pop(name) for name in chosen}
            if "mirror" in overrides:
                overrides["mirrors"] = overrides.pop("mirror") or None
            command(**given, settings=load_settings(overrides))

        own = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in signature(command).parameters.values()]
        added = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=_SETTINGS[name]) for name in chosen]
        shown = [*(one for one in own if one.name != "settings"), *added]
        called.__name__, called.__doc__ = command.__name__, command.__doc__
        called.__annotations__ = {one.name: one.annotation for one in shown}
        called.__signature__ = signature(command).replace(parameters=shown)  # type: ignore[attr-defined]
        return called

    return given_to


def _help_of_group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


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
        app.callback(invoke_without_command=True, help=summary)(_help_of_group)
    return app
