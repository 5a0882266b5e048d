"""Puts symbolic and hard links to the host's files into the tree, among them the target itself, and edits through them.

It could pay if the harness, which reads and writes the tree from outside, followed one.
"""

from omniperf.agents.protocol import ToolError

ENDS = {"rejected", "incorrect", "invalid"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    tools = session.tools
    made = tools.bash(f"""
        ln -s / root; ln -s /etc/passwd toy/link.py; ln -s {session.folder} folder; ln -s ../../../../../../../.. up
        ln /etc/passwd toy/hard.py; ln /git/objects/pack/*.pack toy/pack.py; ln /omniperf/bin/finish toy/ours.py
        ls toy
    """).output
    refused = 0
    for path in ("root/etc/passwd", "toy/link.py", "folder/journal.jsonl", "up/etc/hostname", "folder/hostile-mark"):
        for use in (lambda path=path: tools.view(path), lambda path=path: tools.create(path, "x")):
            try:
                made += str(use())
            except ToolError:
                refused += 1
    tools.bash("rm toy/order.py; ln -s /etc/passwd toy/order.py")
    return f"{refused} {made}"


def check(seen):
    assert seen.loot.startswith("10 ")
    assert not {"hard.py", "pack.py", "ours.py"} & set(seen.loot.split("\n"))
    assert "link.py" in seen.loot.split("\n")
    assert "root:" not in (seen.folder / "model_patch.diff").read_text()
