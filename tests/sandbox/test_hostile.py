"""What an agent finds in the very sandbox that an attempt gives it. Those that attack are under tests/adversary."""

from omniperf.measure.bench import Bench
from omniperf.sandbox.standing import StandingSandbox


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
