"""Leaves a hundred thousand files in the tree: names of one and the same, which are quickly made.

It could pay if an attempt could be held up for ever by what it left.
"""

import shlex

ENDS = {"rejected", "invalid"}
OUTCOME = {"finished"}
FINDING = None

MAKE = """
import os
os.mkdir("many"); os.chdir("many")
for first in "ab":
    open(first, "w").write("x = 1")
    for n in range(50_000):
        os.link(first, f"{first}{n}")
print("made")
"""


def attack(session):
    return session.tools.bash(f"python -c {shlex.quote(MAKE)}").output


def check(seen):
    assert seen.loot == "made\n"
    assert "100,002 files" in seen.result.verdict.reason
