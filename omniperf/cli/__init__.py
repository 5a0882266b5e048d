"""The command line."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from omniperf.errors import OmniPerfError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 usage, 3 a gate was not met, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in options  # taken out here so that it works before and after the command's name
    given = [word for word in options if word != "--debug"] + given[len(options) :]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a run as ctrl-C does, with everything cleaned up
    for stream in (sys.stdout, sys.stderr):  # a path may hold bytes, a terminal may lack characters: never a crash
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    sys.exit(_run(given, debug=debug))


def _run(arguments: list[str], *, debug: bool) -> int:
    from typer import Abort

    from omniperf.cli.app import command

    try:
        code = command()(arguments, prog_name="omniperf", standalone_mode=False)
        sys.stdout.flush()
    except OmniPerfError as error:
        return _fail(str(error), error.exit_code, error, debug=debug)
    except (KeyboardInterrupt, Abort):
        code = 130
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's own errors, whose class moved between its versions
            return _fail(_usage(error), getattr(error, "exit_code", 2), error, debug=debug)
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        hint = "" if debug else " Run again with --debug for the traceback, and please report it."
        return _fail(f"something unexpected happened ({said}).{hint}", 1, error, debug=debug)
    if code == 130:
        print("interrupted", file=sys.stderr)  # noqa: T201
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int, error: BaseException, *, debug: bool) -> int:
    from omniperf.report.escape import plain

    if debug:
        import traceback

        print(plain("".join(traceback.format_exception(error))), file=sys.stderr, end="")  # noqa: T201
    for line in plain(getattr(error, "output", "")).splitlines():
        print(f"  | {line}", file=sys.stderr)  # noqa: T201
    print(f"error: {plain(message)}", file=sys.stderr)  # noqa: T201
    return code


def _usage(error: Exception) -> str:
    said = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    return f"{said}. Try `{context.command_path if context else 'omniperf'} --help`."
