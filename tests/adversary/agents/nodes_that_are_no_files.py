"""Leaves pipes, sockets and device nodes in the tree, one of them in the place of its target.

It could pay if whoever collects the patch waited for a pipe for ever.
"""

from omniperf.agents.protocol import ToolError

ENDS = {"rejected", "incorrect", "invalid"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    made = session.tools.bash("""
        mkfifo toy/pipe.py; mknod toy/zero.py c 1 5; mknod toy/disk.py b 254 0; rm toy/order.py; mkfifo toy/order.py
        python -c 'import socket; socket.socket(socket.AF_UNIX).bind("toy/s.py")'; ls toy
    """).output
    for use in (lambda: session.tools.view("toy/pipe.py"), lambda: session.tools.create("toy/order.py", "x")):
        try:
            made += str(use())
        except ToolError:
            made += "refused "
    return made


def check(seen):
    assert "pipe.py" in seen.loot
    assert "s.py" in seen.loot
    assert "zero.py" not in seen.loot.split("\n")
    assert seen.loot.endswith("refused refused ")
    assert [(file.path, file.status) for file in seen.result.patch.files] == [("toy/order.py", "deleted")]
