"""What every sandbox promises, whatever makes it and whoever starts it: one test a promise."""

import contextlib
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from threading import Thread

import pytest

from omniperf.measure.clock import resident_mib
from omniperf.sandbox.spec import Allowance, Mount
from omniperf.sandbox.standing import StandingSandbox
from tests.sandbox.conftest import ORDINARY, Inside, become_ordinary

MIB = 2**20


def python(program: str) -> str:
    """A command that runs a program, which holds no single quote."""
    return f"python -c '{program}'"


def test_there_is_no_network(inside: Inside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = python(f'import socket; socket.create_connection(("127.0.0.1", {port}), 2)')
        said, devices = inside.run(connect, "tail -n +3 /proc/net/dev | cut -d: -f1")
        assert "refused" in said.output.lower()
        assert devices.output.split() == ["lo"]
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_only_the_workspace_and_the_temporary_folders_can_be_written(inside: Inside) -> None:
    refused = "for at in / /usr /etc /env /omniperf /dev /home; do echo x > $at/x && echo $at; done 2>/dev/null; true"
    allowed = "echo x > /workspace/x && echo x > /tmp/x && echo x > ~/x && echo x > /dev/shm/x && echo all"
    assert [done.output for done in inside.run(refused, allowed)] == ["", "all\n"]


def test_nothing_of_proc_and_sys_can_be_written(inside: Inside) -> None:
    tried = (
        "for at in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/sys/net/ipv4/ip_forward "
        "/proc/sysrq-trigger /proc/1/oom_score_adj "
        "/sys/kernel/mm/transparent_hugepage/enabled /sys/fs/cgroup/x; "
        "do echo 0 > $at && echo $at; done 2>/dev/null; true"
    )
    assert inside.say(tried) == ""
    assert inside.say("find /sys -type f -writable 2>/dev/null | head -3") == ""


def test_temporary_folders_and_home_are_its_own_and_empty(inside: Inside) -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as shared, tempfile.NamedTemporaryFile() as mine:  # noqa: F841
        look = "ls -A /tmp /dev/shm /home /home/agent; touch /tmp/left /dev/shm/left ~/left"
        empty = "/dev/shm:\n\n/home:\nagent\n\n/home/agent:\n\n/tmp:\n"
        assert inside.say(look) == empty
        assert inside.say(look) == empty, "the next sandbox"


def test_processes_of_the_host_are_out_of_sight(inside: Inside) -> None:
    listed, comms = inside.run("ls -d /proc/[0-9]* | wc -l", "cat /proc/[0-9]*/comm")
    assert int(listed.output) < 10
    assert "pytest" not in comms.output


def test_the_host_name_is_its_own(inside: Inside) -> None:
    assert inside.say("hostname") == "omniperf\n"


def test_nobody_inside_is_root_or_can_become_it(inside: Inside) -> None:
    said = inside.say("id -u; id -g; grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)' /proc/self/status").split()
    assert "0" not in said[:2]
    assert said[3:10:2] == ["0" * 16] * 4
    assert said[11] == "1"


def test_the_key_store_is_as_on_a_kernel_without_one(inside: Inside) -> None:
    call = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    ask = f"print(libc.syscall({call}, 0, -3, 0), ctypes.get_errno())"
    assert inside.say(python(f"import ctypes; libc = ctypes.CDLL(None, use_errno=True); {ask}")) == "-1 38\n"


def test_what_is_held_to_cores_cannot_leave_them(all_cores: None, inside: Inside) -> None:
    core = min(os.sched_getaffinity(0))
    leave = f"import os; os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))}); print(os.sched_getaffinity(0))"
    assert inside.say(python(leave), cores=(core,)) == f"{{{core}}}\n"


def test_the_kernel_limits_every_process(inside: Inside) -> None:
    allowance = Allowance(memory=300 * MIB, processes=100, files=64, file_size=MIB)
    forks = (
        "import os, time\nmade = 0\ntry:\n  while made < 1000:\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n"
        "    made += 1\nexcept OSError: print(made)"
    )
    commands = (
        python("bytearray(10**9)"),
        python("import os\ntry:\n  while True: os.dup(0)\nexcept OSError as error: print(error.strerror)"),
        "head -c 2M /dev/zero > /workspace/big; stat -c %s /workspace/big; ulimit -c",
        python(forks),
        "echo alive",
    )
    memory, files, size, processes, alive = inside.run(*commands, allowance=allowance)
    assert "MemoryError" in memory.output
    assert files.output == "Too many open files\n"
    assert size.output.split()[-2:] == [str(MIB), "0"]
    assert int(processes.output) < 100
    assert alive.output == "alive\n"


def test_memory_is_that_of_all_processes_and_of_what_none_owns(inside: Inside) -> None:
    many = (
        "import os, time\nfor _ in range(4):\n  if os.fork() == 0:\n    x = bytearray(150 * 2**20); time.sleep(30)\n"
        "time.sleep(30)"
    )
    shared = (
        "import mmap, time\nm = mmap.mmap(-1, 400 * 2**20)\nfor i in range(0, len(m), 4096): m[i] = 1\ntime.sleep(30)"
    )
    commands = (python(many), python(shared), "head -c 400M /dev/zero > /tmp/big; sleep 30", "rm /tmp/big; echo alive")
    done = inside.run(*commands, allowance=Allowance(memory=300 * MIB))
    assert [one.stopped_by for one in done] == ["memory"] * 3 + [""]
    assert done[-1].output == "alive\n"


def test_the_harness_can_count_the_memory_of_a_sandbox(inside: Inside) -> None:
    if not inside.name.startswith("bubblewrap"):
        pytest.skip("the client of a container is no ancestor of it; `info_fd` names its first process")

    def count() -> bool:
        with StandingSandbox(inside.backend(), inside.spec) as sandbox:
            hold = Thread(target=sandbox.run, args=(python("import time; x = bytearray(2**26); time.sleep(60)"), 3))
            hold.start()
            found = 0.0
            while found < 64 and hold.is_alive():
                found = resident_mib(sandbox._supervisor.pid)
            hold.join()
            return found >= 64

    assert inside.as_its_user(count)


def test_folders_of_the_host_are_out_of_sight(inside: Inside) -> None:
    beside = inside.spec.source("/workspace").parent / "results"
    beside.mkdir()
    (beside / "mark-of-another").touch()
    for folder in (beside, Path.home() / ".ssh", Path(__file__).parent):
        assert "No such file" in inside.say(f"ls {folder}")
    assert inside.say("find / -xdev -name 'mark-of-another' 2>/dev/null") == ""


def test_the_environment_is_an_allow_list(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "planted-key-1234")
    monkeypatch.setenv("HTTPS_PROXY", "http://planted-key-1234@proxy")
    names, everywhere = inside.run("env | cut -d= -f1", "cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'")
    bash = {"PWD", "SHLVL", "_"}
    git = {"GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"}
    ours = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONHASHSEED"}
    assert set(names.output.split()) - bash == ours | git
    assert "planted-key" not in everywhere.output


def test_descriptors_of_the_harness_are_closed(inside: Inside) -> None:
    with tempfile.TemporaryFile() as secret:
        os.set_inheritable(secret.fileno(), True)
        assert inside.say("ls /proc/self/fd").split() == ["0", "1", "2", "3"], "3 lists the folder"


FORGE = """\
reply = b"0 - 0.0 0 6\\nforged"
for fd in range(64):
    try:
        with open(f"/proc/1/fd/{fd}", "wb", 0) as channel:
            channel.write(reply)
    except OSError:
        pass
print("tried")
"""


def test_no_command_can_write_the_supervisors_reply(inside: Inside) -> None:
    (inside.spec.source("/workspace") / "forge.py").write_text(FORGE)
    look = "echo alive; ls /proc/1/fd /proc/1/cwd 2>&1 | grep -c denied"
    done, after = inside.run("python forge.py; sleep 0.2; echo end; exit 3", look)
    assert (done.exit_code, done.output, after.output) == (3, "tried\nend\n", "alive\n2\n")


def test_the_supervisor_cannot_be_traced_or_killed(inside: Inside) -> None:
    attach = "import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))"
    traced, _, alive = inside.run(python(attach), "kill -9 -1; kill -9 1; kill -TERM 1", "echo alive")
    assert traced.output == "-1\n"
    assert alive.output == "alive\n"


def test_commands_see_themselves_in_proc(inside: Inside) -> None:
    look = "ls /proc/self/fd > /dev/null && cat /proc/self/environ | tr '\\0' '\\n' | grep ^USER="
    assert inside.say(look) == "USER=agent\n"


@pytest.mark.parametrize(("loop", "limit"), [("sleep 60", "time"), ("yes", "output")])
def test_at_a_limit_the_whole_tree_dies(inside: Inside, loop: str, limit: str) -> None:
    left = f"sleep 1{os.getpid():07}"
    done, after = inside.run(f"{left} & (setsid {left} &) ; trap '' TERM; {loop}", "ps -eo args", seconds=1.5)
    assert done.stopped_by == limit
    assert left not in after.output


FILLERS = {
    "many files": "i=0; while :; do head -c 8M /dev/zero > $at/f$i; i=$((i + 1)); done",
    "empty files": python('i = 0\nwhile True: open(f"f{i}", "w").close(); i += 1'),
    "a file without a name": python(
        'import os; f = open("f", "wb", 0); os.unlink("f")\nwhile True: f.write(bytes(2**20))'
    ),
    "a folder that cannot be read": python(
        'import os; os.mkdir("f"); f = open("f/f", "wb", 0); os.chmod("f", 0)\nwhile True: f.write(bytes(2**20))'
    ),
    "a process that cannot be looked into": python(
        'import ctypes, os; f = open("f", "wb", 0); os.unlink("f"); ctypes.CDLL(None).prctl(4, 0)\n'
        "while True: f.write(bytes(2**20))"
    ),
}


@pytest.mark.parametrize("place", ["/workspace", "/env"])
@pytest.mark.parametrize("filler", FILLERS)
def test_who_fills_the_disk_is_stopped(inside: Inside, filler: str, place: str) -> None:
    if (filler, place) == ("empty files", "/env"):
        pytest.skip("as slow as the file system makes files")
    env = inside.spec.source("/env")
    layer = env.parent / "layers" / "env"
    if os.getuid() == 0:
        for path in (env, env / "bin"):
            os.chown(path, ORDINARY, ORDINARY)
            path.chmod(0o777)
    env.parent.chmod(0o777)
    private = Mount(env, "/env", True, layer)
    mounts = tuple(private if mount.target == "/env" else mount for mount in inside.spec.mounts)
    cleared = f"chmod -R u+rwX {place}/f* 2>/dev/null; du -sm {place}; rm -rf {place}/f*"
    commands = [f"cd {place}; at={place}; {FILLERS[filler]}", cleared, f"echo x > {place}/y && cat {place}/y"]
    limit = Allowance(disk=(8 if filler == "empty files" else 64) * MIB)
    filled, cleaned, after = inside.run(*commands, allowance=limit, mounts=mounts)
    assert filled.stopped_by == "disk"
    assert int(cleaned.output.split()[0]) < 2048, "MiB, a tenth of a second after the limit"
    assert after.output == "x\n"


def test_short_commands_fill_the_disk_no_further_and_room_can_be_made(inside: Inside) -> None:
    tree = inside.spec.source("/workspace")
    more = [f"head -c 24M /dev/zero > f{number}" for number in range(5)]
    done = inside.run(
        *more, "mkdir here; echo x > y", "rm f*", "echo x > y && cat y", allowance=Allowance(disk=64 * MIB)
    )
    assert [one.stopped_by for one in done] == ["", "", "disk", *[""] * 5]
    assert [one.ok for one in done[3:]] == [False, False, False, True, True]
    assert (tree / "here").is_dir()


def test_nothing_inside_outlives_a_killed_harness(inside: Inside) -> None:
    mark = f"mark-{os.getpid()}-{time.time_ns()}"

    def alive() -> int:
        found = 0
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                found += folder.name.isdigit() and f"# {mark}".encode() in (folder / "cmdline").read_bytes()
        return found

    def until(wanted: int) -> bool:
        deadline = time.monotonic() + 10
        while alive() != wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        return alive() == wanted

    harness = os.fork()
    if harness == 0:
        with contextlib.suppress(BaseException):
            if not inside.as_root:
                become_ordinary()
            StandingSandbox(inside.backend(), inside.spec).run(f"while :; do :; done # {mark}", 60)
        os._exit(0)
    assert until(1)
    os.kill(harness, signal.SIGKILL)
    os.waitpid(harness, 0)
    assert until(0)
