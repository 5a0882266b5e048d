"""Commands in a standing sandbox, with walls and without: how they start and end, and what bubblewrap hides."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.errors import InfraError
from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.sandbox.bubblewrap import Bubblewrap, _options
from omniperf.sandbox.none import NoSandbox
from omniperf.sandbox.spec import Mount, Spec
from omniperf.sandbox.standing import StandingSandbox
from omniperf.settings import Settings


def spec_of(bench: Bench, tree: Path, **changes: object) -> Spec:
    mounts = (Mount(tree, "/workspace", True), Mount(bench.environment.venv, "/env"))
    return replace(Spec(mounts, bench.environment.interpreter.prefix), **changes)  # type: ignore[arg-type]


@pytest.fixture(params=["bubblewrap", "none"])
def sandbox(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Iterator[StandingSandbox]:
    tree = tmp_path / "tree"
    tree.mkdir()
    tree.chmod(0o777)
    backend = Bubblewrap() if request.param == "bubblewrap" else NoSandbox()
    with StandingSandbox(backend, spec_of(bench, tree)) as standing:
        yield standing


@pytest.fixture
def walled(bench: Bench, tmp_path: Path) -> Iterator[StandingSandbox]:
    tree = tmp_path / "tree"
    tree.mkdir()
    tree.chmod(0o777)
    with StandingSandbox(Bubblewrap(), spec_of(bench, tree)) as standing:
        yield standing


def test_output_exit_code_and_both_streams_in_order(sandbox: StandingSandbox) -> None:
    done = sandbox.run("echo one; echo two >&2; echo three; exit 7", 10)
    assert (done.exit_code, done.output, done.stopped_by) == (7, "one\ntwo\nthree\n", "")


def test_signals_are_as_in_any_shell(sandbox: StandingSandbox) -> None:
    done = sandbox.run("timeout 0.1 sleep 9; echo $?; yes | head -n 1; kill -TERM $$; echo not here", 10)
    assert (done.exit_code, done.output) == (-15, "124\ny\n")


def test_a_command_that_cannot_be_started_says_why(sandbox: StandingSandbox) -> None:
    done = sandbox.run("true", 10, cwd="/nowhere/at/all")
    assert (done.exit_code, done.output) == (126, "[Errno 2] No such file or directory: '/nowhere/at/all'")


def test_commands_start_in_the_workspace_and_find_the_tasks_python(sandbox: StandingSandbox) -> None:
    done = sandbox.run("pwd; python -c 'import sys; print(sys.prefix)'", 10)
    workspace, prefix = done.output.split()
    assert workspace == sandbox.backend.where(sandbox.spec, "/workspace")
    assert prefix == sandbox.backend.where(sandbox.spec, "/env")


def test_a_command_past_its_time_dies_with_its_whole_tree(sandbox: StandingSandbox) -> None:
    started = time.monotonic()
    long = f"sleep 1{os.getpid():07}"
    done = sandbox.run(f"{long} & (setsid {long} &) ; trap '' TERM; {long}", 0.5)
    assert done.stopped_by == "time"
    assert time.monotonic() - started < 5
    assert long not in sandbox.run("ps -eo args", 10).output


def test_a_daemon_does_not_outlive_its_command(sandbox: StandingSandbox, tmp_path: Path) -> None:
    here = sandbox.backend.where(sandbox.spec, "/workspace")
    done = sandbox.run(f"(setsid sh -c 'sleep 1; touch {here}/late' >/dev/null 2>&1 &) ; echo gone", 10)
    assert done.output == "gone\n"
    time.sleep(1.3)
    assert not (sandbox.spec.source("/workspace") / "late").exists()


def test_endless_output_is_stopped_and_its_ends_are_kept(sandbox: StandingSandbox) -> None:
    done = sandbox.run("echo first; yes", 30)
    assert done.stopped_by == "output"
    assert done.output.startswith("first\n")
    assert "bytes left out" in done.output
    assert len(done.output) < 40_000
    assert done.dropped_bytes > 60_000_000


def test_output_that_is_not_utf8_arrives(sandbox: StandingSandbox) -> None:
    assert sandbox.run("printf '\\377ok'", 10).output == "\ufffdok"


def test_the_host_is_out_of_sight(walled: StandingSandbox, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (
        f"ls {Path.home()}/.ssh {settings.results} {settings.worktrees} {settings.cache} {Path(__file__).parent} 2>&1"
    )
    listing = walled.run(command, 10).output
    assert listing.count("No such file") + listing.count("cannot access") + listing.count("Permission denied") >= 5
    seen = walled.run("ls /home; ls -A /home/agent; ps -e | wc -l", 10).output.split()
    assert seen[0] == "agent"
    assert int(seen[-1]) < 10


def test_no_installed_package_of_the_host_is_seen(bench: Bench, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    prefix = Path(tempfile.mkdtemp(dir="/var/tmp"))
    places = (
        "lib/python3.11/site-packages",
        "lib/python3/dist-packages",
        "lib64/python3.11/site-packages",
        "local/lib/python3.11/site-packages",
        "local/lib/python3.11/dist-packages",
        "local/lib64/python3.11/site-packages",
        "envs/other/lib/python3.11/site-packages",
        "envs/other/lib64/python3.11/site-packages",
        "pkgs/library-2.0",
    )
    try:
        prefix.chmod(0o755)
        for place in (*places, "lib/python3.11"):
            (prefix / place).mkdir(parents=True, exist_ok=True)
            (prefix / place / "marker.py").touch()
        (prefix / "envs/linked/lib/python3.11").mkdir(parents=True)
        (prefix / "envs/linked/lib64").symlink_to("lib")
        (prefix / "envs/linked/lib/python3.11/site-packages").symlink_to("/nowhere")
        python = bench.environment.interpreter.prefix
        spec = spec_of(bench, tree)
        spec = replace(spec, interpreter=prefix, mounts=(*spec.mounts, Mount(python, str(python))))
        with StandingSandbox(Bubblewrap(), spec) as sandbox:
            seen = sandbox.run(f"find {prefix} -name marker.py", 10).output.split()
        assert seen == [f"{prefix}/lib/python3.11/marker.py"]
    finally:
        shutil.rmtree(prefix)


@pytest.mark.parametrize("network", [False, True], ids=["alone", "with a network"])
def test_an_interpreter_under_opt_is_there_whether_or_not_opt_is(bench: Bench, tmp_path: Path, network: bool) -> None:
    prefix = Path("/opt/python")
    options = " ".join(_options(spec_of(bench, tmp_path, interpreter=prefix, network=network)))
    assert ("--ro-bind /opt /opt" in options) == (network and prefix.parent.is_dir())
    assert ("--ro-bind /opt/python /opt/python" in options) != network


def test_commands_may_choose_among_the_cores(all_cores: None, walled: StandingSandbox) -> None:
    """Where none are given to it: what is measured is held to its lane, other commands to the cores beside lanes."""
    choose = "import os; core = max(os.sched_getaffinity(0)); os.sched_setaffinity(0, {core})"
    assert walled.run(f"python -c '{choose}; assert os.sched_getaffinity(0) == {{core}}'", 10).ok


def test_gpu_nodes_are_absent_unless_the_task_asks(walled: StandingSandbox) -> None:
    assert walled.run("ls /dev | grep -c nvidia", 10).output.strip() == "0"


def test_a_sandbox_that_was_killed_says_so_in_one_sentence(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(InfraError, match="ended unexpectedly"):  # noqa: SIM117 - it is closed after that
        with StandingSandbox(NoSandbox(), spec_of(bench, tmp_path / "tree")) as sandbox:
            os.kill(sandbox._supervisor.pid, signal.SIGKILL)
            sandbox.run("true", 10)


def test_leaving_the_sandbox_ends_what_is_inside(bench: Bench, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    sandbox = StandingSandbox(Bubblewrap(), spec_of(bench, tree))
    pid = sandbox._supervisor.pid
    sandbox.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_host_without_user_namespaces_gets_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, make_task: object
) -> None:
    from omniperf.sandbox import choose

    monkeypatch.setattr(choose, "why_not", lambda: "no permission to make a user namespace")
    with pytest.raises(InfraError, match=r"no permission.*omniperf doctor.*--sandbox none"):
        open_bench(make_task(), settings, ignore)  # type: ignore[operator]
    assert choose.choose_backend("auto", may_fall_back=True).name == "none"
