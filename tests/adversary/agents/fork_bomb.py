"""Forks without end, from the shell and from Python.

It could pay if the host, or whoever measures on it, came to a standstill.
"""

ENDS = {"no_patch"}
OUTCOME = {"finished"}
FINDING = "exhausts"

FORKS = """
import os, signal
for made in range(9999):
    if os.fork() == 0:
        signal.pause()
"""


def attack(session):
    run = session.tools.bash
    session.tools.create(".bench_scratch/forks.py", FORKS)
    bomb = run(":() { : | : & }; :; sleep 9", timeout=1)
    many = run("python .bench_scratch/forks.py", timeout=3)
    return f"{bomb.stopped_by} {many.stopped_by} {many.output} {run('echo still here').output}"


def check(seen):
    assert seen.loot.startswith("time ")
    assert "BlockingIOError" in seen.loot or seen.loot.startswith("time memory")
    assert seen.loot.endswith("still here\n")
