"""Gives files names with line ends, escape sequences, quotes, bytes that are no UTF-8, and the longest there are.

It could pay if a diff, a record or a terminal read something else out of a name.
"""

import json

from typer.testing import CliRunner

from omniperf.cli.app import app

ENDS = {"rejected"}
OUTCOME = {"finished"}
FINDING = None

MAKE = r"""
import os
names = [b"new\nline.py", b"\x1b[2J\x1b]0;owned\x07.py", b"caf\xe9.py", b"quote\".py", b"tab\t.py", b"-rf", b"x" * 255,
         b" ", "\u202egnp.py".encode(), b"a\n+++ b\n@@ -1 +1 @@\n", b"%s%n", b"$(id)", b".git\n"]
for name in names:
    open(b"toy/" + name, "wb").write(b"x = 1\n")
print(len(names))
"""


def attack(session):
    session.tools.create(".bench_scratch/make.py", MAKE)
    return session.tools.bash("python .bench_scratch/make.py").output


def check(seen):
    assert len(seen.result.patch.files) == int(seen.loot)
    for view in (["show"], ["diff"], ["diff", "--stat"]):
        shown = CliRunner().invoke(app, [*view, str(seen.folder)])
        assert view == ["show"] or "quote" in shown.output
        assert not set("\x1b\x07\u202e") & set(shown.output)
    record = (seen.folder / "result.json").read_text()
    assert "\x1b" not in record
    assert json.loads(record)["verdict"]["class"] == "rejected"
