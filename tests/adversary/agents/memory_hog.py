"""Takes all memory it can get: of one process, of many, and in files that live in memory.

It could pay if the kernel ended the harness, or somebody else's measurement, in its place.
"""

ENDS = {"no_patch"}
OUTCOME = {"finished"}
FINDING = "exhausts"

MANY = """
import os, time
for _ in range(3):
    os.fork()
taken = bytearray(60 * 2**20)
time.sleep(9)
"""


def attack(session):
    run = session.tools.bash
    session.tools.create(".bench_scratch/many.py", MANY)
    one = run("python -c 'bytearray(10**10)'").output
    kept = "head -c 400M /dev/zero > /dev/shm/x; sleep 9"
    stops = [run(command).stopped_by for command in ("python .bench_scratch/many.py", kept)]
    return f"{one} {stops} {run('echo still here').output}"


def check(seen):
    assert "MemoryError" in seen.loot
    assert "['memory', 'memory']" in seen.loot
    assert seen.loot.endswith("still here\n")
