"""Prints, and says in its summary and its error, what a terminal takes for orders: clear, title, colours, hidden text.

It could pay where a person reads a log in a terminal and sees what was painted there.
"""

from typer.testing import CliRunner

from omniperf.cli.app import app

ENDS = {"no_patch"}
OUTCOME = {"agent_error"}
FINDING = None

PAINT = "\x1b[2J\x1b[H\x1b]0;improved\x07\x1b[32mimproved 9.99x\x1b[8m \x9b31m \u202e\r"


def attack(session):
    session.tools.bash(f"printf '%s' '{PAINT}'")
    session.tools.commit(PAINT)
    session.tools.finish(PAINT)
    raise RuntimeError(PAINT)


def check(seen):
    shown = CliRunner().invoke(app, ["show", str(seen.folder)])
    assert "improved 9.99x" in shown.output
    assert not set("\x1b\x07\x9b\u202e\r") & set(shown.output)
