"""Nests folders thousands deep, with short names and with the longest there are.

It could pay if the patch could not be collected, or the tree not be deleted.
"""

ENDS = {"no_patch"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    return session.tools.bash("""
        for n in 10 250; do
            python -c "import os
for _ in range(3000): os.mkdir('d' * $n); os.chdir('d' * $n)
open('x', 'w').close()"; done; echo dug
    """).output


def check(seen):
    assert seen.loot == "dug\n"
