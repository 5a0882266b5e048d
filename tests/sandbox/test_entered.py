"""Supervisors that enter bubblewrap's sandboxes from outside: what they bring with them, and what ends with what."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omniperf.errors import InfraError
from omniperf.sandbox import enter, supervised
from omniperf.sandbox.bubblewrap import Bubblewrap
from omniperf.sandbox.spec import Mount, Spec
from omniperf.sandbox.standing import StandingSandbox
from tests.sandbox.conftest import Inside, become_ordinary

AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can look into a supervisor")


@pytest.fixture
def walled(inside: Inside) -> Inside:
    if not inside.name.startswith("bubblewrap"):
        pytest.skip("the supervisor of a container starts inside")
    return inside


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch, bubblewrap: None) -> Iterator[None]:
    """No process that enters sandboxes yet."""
    monkeypatch.setattr(supervised, "_READY", {})
    monkeypatch.setattr(supervised, "_REFUSED", {})
    yield
    for channel, pid in supervised._READY.values():
        channel.close()
        os.waitpid(pid, 0)


def status(pid: int | str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not Path(f"/proc/{pid}").is_dir()


def entering(sandbox: StandingSandbox) -> int:
    """The pid of the process from which its supervisor was forked."""
    return int(status(sandbox._supervisor.pid)["PPid"])


def in_a_fork(call: Callable[[], Any]) -> Any:
    """What `call` returns in a process forked from here: an int."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(call()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        return int(told.read())


def test_it_is_the_first_process_and_nothing_else_is_there(walled: Inside) -> None:
    here, started_with = walled.run("echo /proc/[0-9]*", "tr -d '\\0' < /proc/1/cmdline | wc -c")
    assert here.output == "/proc/1 /proc/2\n", "2 is the shell"
    assert started_with.output == "0\n", "nobody sees what the process that entered was started with"


def test_it_has_no_right_and_cannot_get_one(walled: Inside) -> None:
    def use() -> list[str]:
        with StandingSandbox(walled.backend(), walled.spec) as sandbox:
            found = status(sandbox._supervisor.pid)
            assert found["NSpid"].split()[-1] == "1"
            names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
            return [*(found[name] for name in names), *set(found["Uid"].split() + found["Gid"].split())]

    *rights, user = walled.as_its_user(use)
    assert rights == ["0" * 16] * 5 + ["1", "2"]
    assert user != "0"


def test_proc_has_the_covers_that_bubblewrap_gives_it(walled: Inside) -> None:
    look = "import os; print([at for at in (%s) if os.path.exists(at) and not os.statvfs(at).f_flag & os.ST_RDONLY])"
    names = ", ".join(f'"/proc/{name}"' for name in ("sys", "sysrq-trigger", "irq", "bus"))
    assert walled.say(f"python -c '{look % names}'") == "[]\n"


def test_no_process_of_the_user_can_look_into_the_one_that_enters(walled: Inside) -> None:
    def use() -> bool:
        with StandingSandbox(walled.backend(), walled.spec) as sandbox:
            folder = Path(f"/proc/{entering(sandbox)}/fd")
            return folder.stat().st_uid == 0 and (os.getuid() == 0 or not os.access(folder, os.R_OK))

    assert walled.as_its_user(use)


def test_nothing_that_lies_in_the_sandbox_runs_before_it_is_confined(walled: Inside) -> None:
    """An earlier sandbox with the same layer may have left any `python`."""
    python = walled.spec.source("/env") / "bin/python"
    python.unlink()
    python.write_text("#!/bin/sh\nid -u > /workspace/ran\n")
    python.chmod(0o755)
    ran = walled.spec.source("/workspace") / "ran"
    alone, after = walled.run("ls /workspace", "python; ls /workspace")
    assert (alone.output, after.output) == ("", "ran\n")
    assert ran.read_text() != "0\n"


@AS_ROOT
def test_it_brings_no_descriptor_and_no_folder_of_the_host(anew: None, spec: Spec) -> None:
    with StandingSandbox(Bubblewrap(), spec) as sandbox:
        folder = Path("/proc", str(sandbox._supervisor.pid))
        open_ones = {str(path.readlink()).split(":")[0] for path in (folder / "fd").iterdir()}
        assert open_ones == {"pipe", "/dev/null"}
        assert (folder / "cwd").readlink() == Path("/workspace")
        assert not (folder / "root" / str(Path(__file__).parent)[1:]).exists()
        for kind in ("mnt", "pid", "net", "ipc", "uts"):
            assert (folder / "ns" / kind).readlink() != Path("/proc/self/ns", kind).readlink()


@AS_ROOT
def test_its_memory_holds_no_secret_and_nothing_of_another_sandbox(anew: None, spec: Spec) -> None:
    trees = [spec.source("/workspace").parent / f"tree-of-the-{name}" for name in ("first", "second")]
    for tree in trees:
        tree.mkdir(mode=0o777)
        mounts = (Mount(tree, "/workspace", True), *spec.mounts[1:])
        with StandingSandbox(Bubblewrap(), replace(spec, mounts=mounts)) as sandbox:
            assert sandbox.run("true", 10).ok
            held = memory(sandbox._supervisor.pid)
    assert b"become_supervisor" in held
    assert b"tree-of-the-" not in held
    assert os.environ["PLANTED_API_KEY"].encode() not in held
    assert os.environ["PATH"].encode() not in held


def memory(pid: int) -> bytes:
    """What a process holds of its own."""
    found = b""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as held:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area, rights = line.split()[:2]
            if rights.startswith("rw") and "[v" not in line:
                start, end = (int(at, 16) for at in area.split("-"))
                held.seek(start)
                found += held.read(end - start)
    return found


def test_nothing_can_be_imported_once_it_has_forgotten(tmp_path: Path) -> None:
    (tmp_path / "wave.py").write_text("print('of the sandbox')")
    known = "import sys; sys.path.append(sys.argv[1]); import enter; "
    there = f"sys.path.insert(0, {str(tmp_path)!r}); "
    look = "print(open('/proc/self/cmdline').read().strip('\\0'), open('/proc/self/environ').read().strip('\\0')); "
    said = {}
    for name, forget in (("before", ""), ("after", "enter.forget(); ")):
        program = (sys.executable, "-I", "-S", "-c", f"{known}{forget}{there}{look}import wave")
        folder = str(Path(enter.__file__).parent)
        done = subprocess.run((*program, folder), capture_output=True, text=True, env={"SECRET": "x"})
        said[name] = done.stdout
    assert "SECRET" in said["before"]
    assert "of the sandbox" in said["before"]
    assert said["after"] == " \n"


def test_who_has_the_mounts_of_the_host_is_not_entered() -> None:
    with pytest.raises(OSError, match="no mounts of its own"):
        enter.enter(os.getpid())


def test_where_the_host_labels_what_bubblewrap_starts_nobody_enters(
    walled: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = subprocess.Popen(("/bin/cat",), stdin=subprocess.PIPE)
    monkeypatch.setattr(enter, "is_same", lambda *_: False)
    monkeypatch.setattr(enter, "label", str)
    with other, pytest.raises(OSError, match="the host confines"):
        enter.enter(other.pid)


def test_it_runs_on_the_cores_that_the_harness_has_now(anew: None, all_cores: None, spec: Spec) -> None:
    cores = sorted(os.sched_getaffinity(0))
    look = "grep Cpus_allowed_list /proc/self/status | cut -f2"
    with StandingSandbox(Bubblewrap(), spec):
        os.sched_setaffinity(0, cores[:1])
        with StandingSandbox(Bubblewrap(), spec) as later:
            assert later.run(look, 10).output == f"{cores[0]}\n"


def test_one_process_enters_for_all_that_are_forked(anew: None, spec: Spec) -> None:
    def start() -> int:
        with StandingSandbox(Bubblewrap(), spec) as sandbox:
            assert sandbox.run("true", 10).ok
            return entering(sandbox)

    first = start()
    assert [in_a_fork(start), in_a_fork(start), start()] == [first] * 3


def test_it_ends_with_the_last_of_those_that_use_it(walled: Inside, anew: None) -> None:
    reading, writing = os.pipe()
    harness = os.fork()
    if harness == 0:
        if not walled.as_root:
            become_ordinary()
        sandbox = StandingSandbox(walled.backend(), walled.spec)
        os.write(writing, f"{entering(sandbox)} {sandbox._supervisor.pid}".encode())
        time.sleep(60)
    pids = [int(pid) for pid in os.read(reading, 99).split()]
    assert all(Path(f"/proc/{pid}").is_dir() for pid in pids)
    os.kill(harness, signal.SIGKILL)
    os.waitpid(harness, 0)
    assert all(gone(pid) for pid in pids)


def test_a_sandbox_outlives_the_process_that_entered_and_the_next_one_has_a_new_one(anew: None, spec: Spec) -> None:
    with StandingSandbox(Bubblewrap(), spec) as sandbox:
        first = entering(sandbox)
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert sandbox.run("echo alive", 10).output == "alive\n"
        with StandingSandbox(Bubblewrap(), spec) as other:
            assert entering(other) != first
            assert gone(first)
            assert other.run("tr -d '\\0' < /proc/1/cmdline | wc -c", 10).output == "0\n"


def test_where_nobody_can_enter_it_starts_inside(anew: None, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "_ENTER", "pass")
    for _ in range(2):
        with StandingSandbox(Bubblewrap(), spec) as sandbox:
            assert "supervisor.py" in sandbox.run("tr '\\0' '\\n' < /proc/1/cmdline", 10).output
    assert list(supervised._REFUSED) == [os.getuid()]


def test_walls_that_cannot_be_built_say_why(anew: None, spec: Spec) -> None:
    mounts = (*spec.mounts, Mount(Path("/nowhere/at/all"), "/workspace/more"))
    with pytest.raises(InfraError, match=r"ended unexpectedly.*/nowhere/at/all"):
        StandingSandbox(Bubblewrap(), replace(spec, mounts=mounts))
    assert supervised._REFUSED == {}
