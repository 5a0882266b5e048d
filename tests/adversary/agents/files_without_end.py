"""Leaves a hundred thousand small files in the tree.

It could pay if an attempt could be held up for ever by what it left.
"""

ENDS = {"rejected", "invalid"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    make = "import os\nos.mkdir('many')\nfor n in range(100_000):\n  with open(f'many/{n}', 'w') as file: file.write(str(n))"
    return session.tools.bash(f'python -c "{make}"; ls -f many | wc -l').output


def check(seen):
    assert int(seen.loot) > 100_000
