"""Takes all permissions from files and folders of the tree, its target among them.

It could pay if the patch could not be collected, or the tree not be deleted.
"""

ENDS = {"no_change", "inconclusive"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    run = session.tools.bash
    run("mkdir -p .bench_scratch/shut/inner && echo x > .bench_scratch/shut/inner/x; echo '# edited' >> toy/order.py")
    run("cp -r toy mine; rm -r toy; mv mine toy")  # now they are its own
    return run("chmod 000 .bench_scratch/shut/inner .bench_scratch/shut toy/*.py toy; cat toy/order.py").output


def check(seen):
    assert "Permission denied" in seen.loot
    assert [file.path for file in seen.result.patch.files] == ["toy/order.py"]
