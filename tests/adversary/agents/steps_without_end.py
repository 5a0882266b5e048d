"""Calls tools for ever.

It could pay if an attempt ended only when its agent says so.
"""

ENDS = {"no_patch"}
OUTCOME = {"budget"}
FINDING = None


def attack(session):
    while True:
        session.tools.bash("true")


def check(seen):
    assert seen.result.usage.steps == 40
