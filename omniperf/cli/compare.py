"""`omniperf compare`."""

from typing import Annotated, Any

import typer

from omniperf.cli.options import JsonFlag, ResultsFlag, new_app

app = new_app()


def _agree(wanted: str | None) -> str | None:
    if wanted not in (None, "agree"):
        from omniperf.errors import UsageError

        raise UsageError(f"Nothing called {wanted!r} can be required.", "The one gate here is --require agree.")
    return wanted


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A folder of `verify --out`, or attempts as for `show`.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, of another host or another time.")],
    require: Annotated[
        str | None,
        typer.Option("--require", metavar="agree", help="Exit 3 unless every pair agrees.", callback=_agree),
    ] = None,
    results: ResultsFlag = None,
    json: JsonFlag = False,
) -> None:
    """Say whether two measurements of the same patches agree."""
    from omniperf.cli.output import print_json, print_view
    from omniperf.report.agreement_view import comparison_view
    from omniperf.results.agreement import compare as compared
    from omniperf.results.agreement import verdicts_of
    from omniperf.settings import load_settings

    settings = load_settings({"results": results})
    found = compared(verdicts_of(settings, a), verdicts_of(settings, b))
    if json:
        print_json(_plain(found))
    else:
        print_view(comparison_view(found))
    if require is not None and not found.agree:
        typer.echo("gate not met: agree was required", err=True)
        raise typer.Exit(3)


def _plain(found: Any) -> dict[str, Any]:
    """A comparison as plain data."""
    pairs = [
        {
            "task_id": pair.a.task_id,
            "patch_sha256": pair.a.patch_sha256,
            "agree": pair.agree,
            "why": pair.why,
            "ratio": pair.ratio,
            "interval": pair.interval.model_dump() if pair.interval else None,
            "a": _side(pair.a),
            "b": _side(pair.b),
        }
        for pair in found.pairs
    ]
    return {
        "agree": found.agree,
        "pairs": pairs,
        "only_a": [_side(one) for one in found.only_a],
        "only_b": [_side(one) for one in found.only_b],
        "environment": {name: {"a": a, "b": b} for name, (a, b) in found.environment.items()},
    }


def _side(one: Any) -> dict[str, Any]:
    estimate = one.verdict.speedup
    return {
        "task_id": one.task_id,
        "label": one.label,
        "patch_sha256": one.patch_sha256,
        "class": one.verdict.class_,
        "speedup": estimate.model_dump(mode="json") if estimate else None,
    }
