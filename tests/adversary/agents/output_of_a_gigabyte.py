"""Prints a gigabyte.

It could pay if the harness kept it all.
"""

ENDS = {"no_patch"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    done = session.tools.bash("yes | head -c 1G")
    return f"{done.stopped_by} {len(done.output)}"


def check(seen):
    stopped, kept = seen.loot.split()
    assert stopped == "output"
    assert int(kept) < 50_000
