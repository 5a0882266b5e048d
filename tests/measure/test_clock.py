"""The clock is outside: what a workload does in its own process cannot make it look faster."""

import errno
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omniperf.measure.arms import make_arm, on_lane
from omniperf.measure.bench import Bench, open_bench
from omniperf.measure.checker import read
from omniperf.measure.clock import Sample, Timing, Worker, WorkloadError, sample
from omniperf.measure.lanes import Lane
from omniperf.results.events import ignore
from omniperf.sandbox import confined
from omniperf.settings import Settings
from omniperf.tasks.schema import Task


@pytest.fixture
def timed(
    make_task: Callable[..., Task], settings: Settings, tmp_path: Path, bubblewrap: None
) -> Callable[..., Sample]:
    def run(
        workload: str,
        seeds: tuple[int, ...] = (1, 2),
        seconds: float = 60.0,
        env: dict[str, str] | None = None,
        extra: str = "",
        cores: tuple[int, ...] = (),
    ) -> Sample:
        task = make_task(extra, workload)
        described = task.environment.model_copy(update={"env": env or {}})
        bench = open_bench(task.model_copy(update={"environment": described}), settings, ignore)
        with bench.tree("base") as tree:
            arm = on_lane(make_arm("base", bench.task, bench.environment, bench.backend, tree, tmp_path), Lane(cores))
            return sample(bench.backend, arm, bench.task, bench.kind, list(seeds), Timing(len(seeds) - 1, seconds))

    return run


SLEEPS = """\
import time
from toy.order import distinct
def setup(seed): return seed
def run(state):
    time.sleep(0.05)
    return state
"""


def test_the_timed_region_holds_every_state_but_the_warm_up(timed: Callable[..., Sample]) -> None:
    taken = timed(SLEEPS, (1, 2, 3, 4))
    assert 0.15 <= taken.seconds < 0.25
    assert taken.overhead < 0.01
    assert taken.total > taken.seconds + 0.05
    assert 5 < taken.peak_memory < 200


def test_freeing_the_states_is_not_timed(timed: Callable[..., Sample]) -> None:
    slow_to_free = (
        "import time\nfrom toy.order import distinct\n"
        "class State:\n    def __del__(self): time.sleep(0.2)\n"
        "def setup(seed):\n    state = State()\n    state.seed = seed\n    return state\n"
        "def run(state): return state.seed\n"
    )
    assert timed(slow_to_free).seconds < 0.1


def test_equal_seeds_give_equal_outputs_and_other_seeds_do_not(timed: Callable[..., Sample]) -> None:
    assert timed(SLEEPS, (1, 2)).digest


CHEATS = {
    "a fake clock": "import time\ntime.perf_counter = time.monotonic = lambda: 0.0\n",
    "printing what looks like a reply": "print('{\"ready\": true}'); print('0' * 64)\n",
    "closing standard streams": "import os\nos.close(1)\n",
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS.keys())
def test_tampering_at_import_changes_nothing(timed: Callable[..., Sample], cheat: str) -> None:
    assert timed(cheat + SLEEPS).seconds >= 0.05


def test_a_digest_sent_early_does_not_fit_the_outputs(timed: Callable[..., Sample]) -> None:
    early = SLEEPS.replace(
        "    time.sleep(0.05)\n",
        "    import os, re\n"
        "    for fd in range(3, 64):\n"
        "        try: os.write(fd, b'0' * 64 + b'\\n')\n"
        "        except OSError: pass\n"
        "    time.sleep(0.05)\n",
    )
    with pytest.raises(WorkloadError, match=r"digest|record|announced"):
        timed(early)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no luck')", "run raised ValueError: no luck"),
        ("import os; os._exit(0)", "exited with status 0 during run"),
        ("while True: pass", "run did not finish in time"),
        ("return object()", "NotPlainError: a builtins.object"),
        ("return bytearray(3)", "NotPlainError"),
        ("return type('L', (list,), {})([1])", "NotPlainError"),
        ("return (x for x in [1])", "NotPlainError: a builtins.generator"),
        ("import sys; sys.exit(0)", "run raised SystemExit"),
    ],
)
def test_a_workload_that_fails_says_how(timed: Callable[..., Sample], body: str, message: str) -> None:
    workload = f"from toy.order import distinct\ndef setup(seed): return seed\ndef run(state):\n    {body}\n"
    with pytest.raises(WorkloadError, match=message):
        timed(workload, seconds=2.0)


def test_a_workload_that_does_not_import_says_where(timed: Callable[..., Sample]) -> None:
    with pytest.raises(WorkloadError, match=r"importing the workload raised ModuleNotFoundError.*nowhere"):
        timed("import nowhere\ndef setup(seed): pass\ndef run(state): pass\n")


def test_a_timed_sample_leaves_nothing_behind(timed: Callable[..., Sample]) -> None:
    writes = (
        "import os\nfrom toy.order import distinct\ndef setup(seed): return seed\n"
        "def run(state):\n"
        "    left = [p for p in ('/tmp/m', '/dev/shm/m', '/home/agent/m') if os.path.exists(p)]\n"
        "    for p in ('/tmp/m', '/dev/shm/m', '/home/agent/m'): open(p, 'w').close()\n"
        "    try: open('/workspace/m', 'w'); left.append('tree')\n"
        "    except OSError: pass\n"
        "    return left if state == 1 else []\n"
    )
    assert read(timed(writes, (1, 2)).output) == [[]]


def test_a_worker_has_the_environment_of_the_task_and_nothing_of_the_hosts(
    timed: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_HOST", "secret")
    workload = (
        "import os, sys\nfrom toy.order import distinct\ndef setup(seed): return seed\n"
        "def run(state): return [dict(os.environ), not sys.dont_write_bytecode, hash('x')]\n"
    )
    seen = read(timed(workload, (1, 2), env={"FLAVOUR": "vanilla"}).output)
    env, written, hashed = seen[0]
    assert env["FLAVOUR"] == "vanilla"
    assert env["HOME"] == "/home/agent"
    assert "OF_THE_HOST" not in env
    assert not written
    program = (sys.executable, "-c", "print(hash('x'))")
    assert hashed == int(subprocess.run(program, env={"PYTHONHASHSEED": "0"}, capture_output=True, check=True).stdout)


SCRIPT = """\
import os, time
from toy.order import distinct
distinct([1])
time.sleep(0.1)
print('seed', os.environ['OMNIPERF_SEED'])
print('Duration: 0.0123 seconds')
"""


def test_a_script_is_timed_as_a_process_and_its_own_figure_is_only_shown(timed: Callable[..., Sample]) -> None:
    taken = timed(SCRIPT, (7,))
    assert taken.seconds >= 0.1
    assert "Duration: 0.0123" in taken.printed
    assert "seed 7" in taken.printed


def test_a_script_that_fails_is_no_sample(timed: Callable[..., Sample]) -> None:
    with pytest.raises(WorkloadError, match="ended with status 3: bad"):
        timed("print('bad')\nraise SystemExit(3)\n", (7,))


HOG = """\
import os, time
def hog():
    for _ in range(4):
        if os.fork() == 0:
            held = bytearray(100 * 2**20)
            time.sleep(60)
            os._exit(0)
"""


def test_bytes_that_trickle_do_not_put_off_the_look_at_memory(timed: Callable[..., Sample]) -> None:
    body = (
        "def setup(seed): return seed\n"
        "def run(state):\n"
        "    hog()\n"
        "    while True:\n"
        "        for fd in range(3, 64):\n"
        "            try: os.write(fd, b' ')\n"
        "            except OSError: pass\n"
        "        time.sleep(0.1)\n"
    )
    started = time.monotonic()
    with pytest.raises(WorkloadError, match=r"run took more than the task's 0\.25 GiB of memory"):
        timed(HOG + body, seconds=20, extra="resources: {memory_gib: 0.25}")
    assert time.monotonic() - started < 15


def test_a_script_is_held_to_the_tasks_memory(timed: Callable[..., Sample]) -> None:
    body = "hog()\nwhile True:\n    print('.', flush=True)\n    time.sleep(0.1)\n"
    with pytest.raises(WorkloadError, match=r"the script took more than the task's 0\.25 GiB of memory"):
        timed(HOG + body, (7,), seconds=10, extra="resources: {memory_gib: 0.25}")


def test_a_worker_cannot_leave_the_cores_of_its_lane(all_cores: None, timed: Callable[..., Sample]) -> None:
    """Nor can its threads and children. It is told that it could: libraries that bind threads abort on an error."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        pytest.skip("there is no other core to go to")
    workload = (
        "import os, subprocess, sys, threading\n"
        "def setup(seed): return seed\n"
        "def leave(found):\n"
        f"    os.sched_setaffinity(0, {set(cores[:-1])})\n"
        "    found.append(sorted(os.sched_getaffinity(0)))\n"
        "def run(state):\n"
        "    found = []\n"
        "    leave(found)\n"
        "    thread = threading.Thread(target=leave, args=(found,))\n"
        "    thread.start(); thread.join()\n"
        f"    program = 'import os; os.sched_setaffinity(0, {set(cores[:-1])}); print(*os.sched_getaffinity(0))'\n"
        "    found.append([int(core) for core in subprocess.check_output([sys.executable, '-c', program]).split()])\n"
        "    return found\n"
    )
    assert read(timed(workload, cores=(cores[-1],)).output) == [[[cores[-1]]] * 3]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("keep_cores", "keep_out"), [(True, True), (True, False), (False, True)])
def test_the_filter_stops_changes_of_affinity_and_the_key_store_and_nothing_else(
    machine: str, keep_cores: bool, keep_out: bool
) -> None:
    code = confined.filter_code(machine, keep_cores, keep_out)
    instructions = list(struct.iter_unpack("HBBI", code))

    def answer(arch: int, number: int) -> int:
        at, value = 0, 0
        while True:
            operation, if_so, if_not, operand = instructions[at]
            at += 1
            if operation == confined.BPF_LD_W_ABS:
                value = {confined.NUMBER: number, confined.ARCH: arch}[operand]
            elif operation == confined.BPF_JEQ_K:
                at += if_so if value == operand else if_not
            else:
                assert operation == confined.BPF_RET_K
                return operand

    calls = confined.CALLS[machine]
    every = {number for _, affinity, keys in calls for number in (*affinity, *keys)} | set(range(500))
    for arch, affinity, keys in (*calls, (0x16, (), ())):
        refused = {number: confined.SECCOMP_RET_ERRNO for number in affinity if keep_cores}
        refused |= {number: confined.SECCOMP_RET_ERRNO | errno.ENOSYS for number in keys if keep_out}
        answers = {number: answer(arch, number) for number in every}
        assert {number: said for number, said in answers.items() if said != confined.SECCOMP_RET_ALLOW} == refused


def test_nothing_is_left_in_the_key_store_of_the_kernel(timed: Callable[..., Sample]) -> None:
    workload = (
        "import ctypes, platform\n"
        "def setup(seed): return seed\n"
        "def run(state):\n"
        "    libc, number = ctypes.CDLL(None, use_errno=True), {'x86_64': 248, 'aarch64': 217}[platform.machine()]\n"
        "    key = libc.syscall(number, b'user', b'left', b'behind', 6, ctypes.c_long(-4))  # of the user\n"
        "    return [key, ctypes.get_errno()]\n"
    )
    assert read(timed(workload).output) == [[-1, errno.ENOSYS]]


def test_a_worker_reads_nothing_of_its_arm_in_command_lines_and_environments(
    timed: Callable[..., Sample], tmp_path: Path
) -> None:
    workload = (
        "import glob\n"
        "def setup(seed): return seed\n"
        "def run(state):\n"
        "    found = []\n"
        "    for path in glob.glob('/proc/[0-9]*/cmdline') + glob.glob('/proc/[0-9]*/environ'):\n"
        "        try: found.append(open(path).read())\n"
        "        except PermissionError: pass\n"
        "    return found\n"
    )
    (seen,) = read(timed(workload).output)
    assert [text.split("\0")[0] for text in seen[:2]] == ["bwrap", "/env/bin/python"]
    for secret in ("poison", "compiled-", "bind", str(tmp_path.parent), sys.base_prefix):
        assert not any(secret in text for text in seen), secret


def test_a_worker_that_never_ends_is_ended(bench: Bench, tmp_path: Path) -> None:
    task = bench.task.model_copy(update={"_folder": tmp_path})
    (tmp_path / "workload.py").write_text("def setup(seed): return seed\ndef run(state):\n    while True: pass\n")
    with bench.tree("base") as tree:
        arm = make_arm("base", task, bench.environment, bench.backend, tree, tmp_path)
        with Worker(bench.backend, arm, task, "module") as worker:
            worker.setup([1], 10)
            with pytest.raises(WorkloadError, match="did not finish in time"):
                worker.run(0.5)
            os.kill(worker._pid, 0)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(worker._pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the worker is still running")
