"""Prints a little for ever, from a process that ignores every signal and holds the pipe open.

It could pay if the command counted as alive for as long as it speaks.
"""

ENDS = {"no_patch"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    forever = "trap '' TERM INT HUP; while :; do echo x; sleep 0.1; done"
    return [session.tools.bash(command, timeout=0.7).stopped_by for command in (forever, f"({forever}) & exit 0")]


def check(seen):
    assert seen.loot == "['time', '']"
