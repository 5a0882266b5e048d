"""`omniperf config`."""

from typing import TYPE_CHECKING, Annotated

import typer

from omniperf.cli.options import JsonFlag, new_app, with_settings

if TYPE_CHECKING:
    from omniperf.settings import Settings

app = new_app("Show the settings in force and where they come from.")


@app.command()
@with_settings()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each setting comes from.")] = False,
    json: JsonFlag = False,
    *,
    settings: "Settings",
) -> None:
    """Show the settings in force.

    Each setting comes from the last of these that names it: the default, ~/.config/omniperf/config.toml, the nearest
    omniperf.toml, the environment (OMNIPERF_RESULTS and so on), a flag.
    """
    from omniperf.cli.output import print_json

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
    width = max(map(len, values))
    for key, value in values.items():
        shown = (":".join(value) if isinstance(value, tuple) else str(value or "")) or "(none)"
        typer.echo(f"{key:<{width}} {shown}" + (f"    ({settings.origins[key]})" if origin else ""))
