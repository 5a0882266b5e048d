"""Commands in a standing sandbox: limits hold, whole trees die, nothing of the host is seen."""

import contextlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.sandbox.bubblewrap import Bubblewrap, _options
from omniperf.sandbox.none import NoSandbox
from omniperf.sandbox.spec import Allowance, Mount, Spec
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


def test_a_process_that_takes_too_much_memory_fails(bench: Bench, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    spec = spec_of(bench, tree, allowance=Allowance(memory=300 * 2**20))
    with StandingSandbox(Bubblewrap(), spec) as sandbox:
        assert "MemoryError" in sandbox.run("python -c 'bytearray(10**9)'", 10).output
        many = (
            "import os, time\n"
            "for _ in range(4):\n"
            "  if os.fork() == 0:\n"
            "    x = bytearray(150 * 2**20); time.sleep(30)\n"
            "time.sleep(30)"
        )
        assert sandbox.run(f"python -c '{many}'", 20).stopped_by == "memory"
        assert sandbox.run("echo alive", 10).output == "alive\n"


def test_memory_that_no_process_owns_counts_too(bench: Bench, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    spec = spec_of(bench, tree, allowance=Allowance(memory=200 * 2**20))
    shared = (
        "import mmap, time\nm = mmap.mmap(-1, 400 * 2**20)\nfor i in range(0, len(m), 4096): m[i] = 1\ntime.sleep(30)"
    )
    with StandingSandbox(Bubblewrap(), spec) as sandbox:
        assert sandbox.run(f"python -c '{shared}'", 20).stopped_by == "memory"
        assert sandbox.run("head -c 400M /dev/zero > /tmp/big; sleep 30", 20).stopped_by == "memory"


def test_ten_thousand_processes_cannot_be_made_even_as_root(walled: StandingSandbox) -> None:
    program = (
        "import os, time\nmade = 0\ntry:\n  while made < 10000:\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n"
        "    made += 1\nexcept OSError as error: print(error)\nprint(made)"
    )
    made = int(walled.run(f"python -c '{program}'", 30).output.split()[-1])
    assert made < 600
    assert walled.run("echo alive", 10).output == "alive\n"


def test_killing_everything_from_inside_does_not_end_the_sandbox(walled: StandingSandbox) -> None:
    walled.run("kill -9 -1; kill -9 1; kill -TERM 1", 10)
    assert walled.run("echo alive", 10).output == "alive\n"


def test_nobody_inside_is_root(walled: StandingSandbox) -> None:
    inside = walled.run("id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status", 10).output.split()
    assert int(inside[0]) != 0
    assert inside[2] == "0" * 16
    assert inside[4] == "1"


def test_the_host_is_out_of_sight(walled: StandingSandbox, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (
        f"ls {Path.home()}/.ssh {settings.results} {settings.worktrees} {settings.cache} {Path(__file__).parent} 2>&1"
    )
    listing = walled.run(command, 10).output
    assert listing.count("No such file") + listing.count("cannot access") + listing.count("Permission denied") >= 5
    seen = walled.run("ls /home; ls -A /home/agent; ps -e | wc -l", 10).output.split()
    assert seen[0] == "agent"
    assert int(seen[-1]) < 10


def test_no_key_of_the_harness_is_in_any_environment(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "planted-key-1234")
    tree = tmp_path / "tree"
    tree.mkdir()
    with StandingSandbox(Bubblewrap(), spec_of(bench, tree)) as sandbox:
        seen = sandbox.run("env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'", 10).output
    assert "planted-key" not in seen


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
    """Only what is measured is held to its lane."""
    choose = "import os; core = max(os.sched_getaffinity(0)); os.sched_setaffinity(0, {core})"
    assert walled.run(f"python -c '{choose}; assert os.sched_getaffinity(0) == {{core}}'", 10).ok


def test_writing_outside_the_workspace_fails(walled: StandingSandbox) -> None:
    for target in ("/usr/x", "/etc/x", "/env/x", "/omniperf/x", "/x", "/proc/sys/kernel/hostname"):
        assert not walled.run(f"echo x > {target}", 10).ok, target
    assert walled.run("echo x > /workspace/x && echo x > /tmp/x && echo x > ~/x && echo x > /dev/shm/x", 10).ok


def test_there_is_no_network(walled: StandingSandbox) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    connect = f"python -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'"
    assert "refused" in walled.run(connect, 10).output.lower()
    server.setblocking(False)
    with server, pytest.raises(BlockingIOError):
        server.accept()


def test_gpu_nodes_are_absent_unless_the_task_asks(walled: StandingSandbox) -> None:
    assert walled.run("ls /dev | grep -c nvidia", 10).output.strip() == "0"


def test_leaving_the_sandbox_ends_what_is_inside(bench: Bench, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    sandbox = StandingSandbox(Bubblewrap(), spec_of(bench, tree))
    pid = sandbox._process.pid
    sandbox.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_host_without_user_namespaces_gets_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, make_task: object
) -> None:
    from omniperf.errors import InfraError
    from omniperf.sandbox import choose

    monkeypatch.setattr(choose, "why_not", lambda: "no permission to make a user namespace")
    with pytest.raises(InfraError, match=r"no permission.*omniperf doctor.*--sandbox none"):
        open_bench(make_task(), settings, ignore)  # type: ignore[operator]
    assert choose.choose_backend("auto", may_fall_back=True).name == "none"


def test_nothing_inside_outlives_a_killed_harness(bench: Bench, tmp_path: Path) -> None:
    """Kill the harness while a workload spins: no process of the sandbox may be left."""
    program = (
        "import sys, pickle, subprocess\n"
        "from omniperf.sandbox.bubblewrap import Bubblewrap\n"
        "from omniperf.sandbox.standing import StandingSandbox\n"
        "sandbox = StandingSandbox(Bubblewrap(), pickle.load(open(sys.argv[1], 'rb')))\n"
        "print('up', flush=True)\n"
        "sandbox.run('while :; do :; done # ' + sys.argv[2], 600)\n"
    )
    tree = tmp_path / "tree"
    tree.mkdir()
    kept = tmp_path / "spec"
    kept.write_bytes(pickle.dumps(spec_of(bench, tree)))
    mark = f"mark-{os.getpid()}-{time.time_ns()}"
    harness = subprocess.Popen([sys.executable, "-c", program, str(kept), mark], stdout=subprocess.PIPE)
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"up\n"

    def spinning() -> int:
        found = 0
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                found += folder.name.isdigit() and f"# {mark}".encode() in (folder / "cmdline").read_bytes()
        return found

    deadline = time.monotonic() + 10
    while not spinning() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert spinning() == 1
    harness.kill()
    harness.communicate()
    while spinning() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert spinning() == 0
