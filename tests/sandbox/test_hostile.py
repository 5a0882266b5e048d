"""What an agent finds when it goes looking, in the very sandbox that an attempt gives it."""

from pathlib import Path

import pytest

from omniperf.measure.bench import Bench
from omniperf.sandbox.standing import StandingSandbox
from omniperf.workspace.patch import collect
from tests.conftest import SLOW

LOOKS = [
    "git log --all --oneline",
    "git reflog --all",
    "git cat-file --batch-all-objects --batch-check",
    "git fsck --full --lost-found --unreachable --no-reflogs",
    "git rev-list --all --objects",
    "git for-each-ref",
    "git stash list",
    "git worktree list",
    "git remote -v",
    "cat /git/packed-refs /git/FETCH_HEAD /git/ORIG_HEAD /git/objects/info/alternates",
    "find / -xdev \\( -name 'reference*' -o -name task.yaml -o -name workload.py -o -name result.json \\) 2>/dev/null",
    "cat /workspace/.git; ls -la /git /git/objects/pack",
]


@pytest.mark.parametrize("command", LOOKS)
def test_no_command_shows_the_human_commit_or_another_tree(bench: Bench, command: str) -> None:
    other = bench.workspace("another")
    (other.tree / "toy/order.py").write_text("# the other attempt's secret\n")
    workspace = bench.workspace("agent")
    human = bench.source.human or ""
    with StandingSandbox(bench.backend, bench.spec(workspace, agent=True)) as sandbox:
        output = sandbox.run(command, 30).output
    for secret in (
        human,
        human[:8],
        "secret of the human commit",
        "fromkeys",
        str(bench.settings.worktrees),
        "another",
    ):
        assert secret not in output, f"{command} shows {secret}: {output}"


def test_the_agents_git_has_exactly_one_commit_and_works(bench: Bench) -> None:
    workspace = bench.workspace("agent")
    script = (
        "git status --porcelain; git log --format=%H; echo x >> README.md; git diff --stat; "
        "git commit -qam 'my work' && git log --format=%s; git checkout -q HEAD~1 -- README.md; git status --porcelain"
    )
    with StandingSandbox(bench.backend, bench.spec(workspace, agent=True)) as sandbox:
        done = sandbox.run(script, 30)
    assert done.ok, done.output
    assert done.output.splitlines()[0] == bench.seal.commit
    assert "my work" in done.output
    assert "dubious" not in done.output


def test_wiping_and_poisoning_git_from_inside_neither_breaks_the_patch_nor_runs_on_the_host(
    bench: Bench, tmp_path: Path
) -> None:
    mark = tmp_path / "ran-on-the-host"
    workspace = bench.workspace("agent")
    attack = f"""
    echo '# edited' >> toy/order.py
    rm -rf /git/* /workspace/.git; rm -f /git/objects/pack/*
    mkdir -p /git/hooks && printf '#!/bin/sh\\ntouch {mark}\\n' > /git/hooks/post-index-change && chmod +x /git/hooks/*
    printf '[core]\\n fsmonitor = touch {mark}\\n[filter "x"]\\n clean = touch {mark}\\n' > /git/config
    echo '* filter=x' > .gitattributes
    mkdir sub && cd sub && git init -q . && git config core.fsmonitor 'touch {mark}'
    """
    with StandingSandbox(bench.backend, bench.spec(workspace, agent=True)) as sandbox:
        sandbox.run(attack, 30)
    patch = collect(workspace)
    assert {file.path for file in patch.files} == {".gitattributes", "toy/order.py"}
    assert not mark.exists()
    assert list(bench.seal.pack.glob("*.pack")), "the seal's pack survived"
    with bench.tree("after") as clean:
        assert (clean.tree / "toy/order.py").read_text() == SLOW


def test_no_command_line_no_environment_and_no_mount_point_names_a_folder_of_the_host(bench: Bench) -> None:
    """Neither the agent's, nor the ones in which tests of a tree run.

    Of mountinfo only the mount points: the kernel shows what part of its file system is mounted, too.
    """
    workspace = bench.workspace("agent")
    for agent in (True, False):
        with StandingSandbox(bench.backend, bench.spec(workspace, agent=agent)) as sandbox:
            look = "cat .git; pwd; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; cut -d' ' -f5 /proc/self/mountinfo"
            seen = sandbox.run(look, 30).output
        assert str(bench.settings.worktrees) not in seen
        assert str(bench.settings.cache) not in seen
        assert seen.startswith("gitdir: /git\n")
