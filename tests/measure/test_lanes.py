"""A lane is held by one at a time, on the whole host."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pynvml
import pytest

from omniperf.errors import InfraError
from omniperf.measure import lanes as lanes_module
from omniperf.measure import nvml
from omniperf.measure.bench import Bench
from omniperf.measure.lanes import Lane, beside_lanes, claimed, cpu_lanes, gpu_lanes
from omniperf.measure.nvml import Gpu
from omniperf.sandbox.standing import StandingSandbox
from omniperf.tasks.schema import Resources


def test_lanes_are_disjoint_and_leave_a_core_for_the_harness(all_cores: None) -> None:
    available = sorted(os.sched_getaffinity(0))
    cores = [core for lane in cpu_lanes(1) for core in lane.cores]
    assert len(cores) == len(set(cores))
    if len(available) > 1:
        assert available[0] not in cores


@pytest.fixture
def two_threads_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads on four cores: 0 and 4, 1 and 5, and so on."""
    monkeypatch.setattr(lanes_module, "_physical", lambda thread: thread % 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def test_a_lane_has_its_physical_cores_alone(two_threads_a_core: None) -> None:
    assert [lane.cores for lane in cpu_lanes(1)] == [(3,), (2,)]
    assert [lane.cores for lane in cpu_lanes(2)] == [(3, 2)]
    assert Lane((7, 3)).locks == ("cpu-3",), "who measures on the other thread must wait"


def test_what_is_not_timed_has_cores_of_its_own(two_threads_a_core: None) -> None:
    assert beside_lanes(1) == beside_lanes(2) == (0, 1, 4, 5)
    assert beside_lanes(3) == (0, 4)
    assert beside_lanes(4) == (), "the one lane needs them all"


def test_an_agents_commands_keep_off_the_lanes(bench: Bench) -> None:
    with StandingSandbox(bench.backend, bench.spec(bench.workspace("x"), agent=True)) as sandbox:
        done = sandbox.run("python -c 'import os; print(*sorted(os.sched_getaffinity(0)))'", 30)
    cores = tuple(map(int, done.output.split()))
    assert cores == (beside_lanes(1) or tuple(sorted(os.sched_getaffinity(0))))


def test_threads_serve_where_cores_are_too_few(two_threads_a_core: None) -> None:
    assert [lane.cores for lane in cpu_lanes(6)] == [(7, 6, 5, 4, 3, 2)]


def test_the_kernel_says_which_threads_share_a_core() -> None:
    online = sorted(os.sched_getaffinity(0))
    assert set(lanes_module.first_threads(online)) <= set(online)
    assert lanes_module._physical(10**6) == 10**6, "without a word of the kernel's a thread is a core"


def test_more_cores_than_there_are_is_a_clear_error() -> None:
    with pytest.raises(InfraError, match="needs 4096 cores"):
        cpu_lanes(4096)


def _hold(pipe: Connection, lock_folder: str, rounds: int) -> None:
    from pathlib import Path

    from omniperf.measure import lanes

    lanes._LOCKS = Path(lock_folder)
    for _ in range(rounds):
        with claimed(lanes.cpu_lanes(1)[:1]):
            began = time.monotonic()
            time.sleep(0.005)
            pipe.send((began, time.monotonic()))
    pipe.close()


def test_two_processes_never_hold_one_lane_at_once(tmp_path: object) -> None:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(3):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_hold, args=(theirs, str(tmp_path), 10))
        process.start()
        theirs.close()
        pipes.append(mine)
        processes.append(process)
    held = []
    for pipe in pipes:
        while True:
            try:
                held.append(pipe.recv())
            except EOFError:
                break
        pipe.close()
    for process in processes:
        process.join()
    held.sort()
    assert len(held) == 30
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(held))


def test_a_lock_dies_with_its_holder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from omniperf.measure import lanes

    monkeypatch.setattr(lanes, "_LOCKS", Path(str(tmp_path)))
    child = os.fork()
    if child == 0:
        with claimed(cpu_lanes(1)[:1]):
            os._exit(0)
    os.waitpid(child, 0)
    with claimed(cpu_lanes(1)[:1], waiting=lambda: pytest.fail("the lane is still held")):
        pass


def gpu(index: int, memory_gib: int) -> Gpu:
    return Gpu(index, "a GPU", f"GPU-{index}", "1", memory_gib * 1024, 0, 1, 1, 1, "Enabled")


def test_a_gpu_lane_has_gpus_of_its_own_and_cores() -> None:
    lanes = gpu_lanes(Resources(gpus=1, gpu_memory_gib=16), [gpu(0, 80), gpu(1, 8), gpu(2, 80)], cpu_lanes(1))
    assert [lane.gpus for lane in lanes] == [("GPU-0",), ("GPU-2",)]
    assert all(lane.cores for lane in lanes)
    assert lanes[0].locks[0] == "gpu-GPU-0"


def test_several_gpus_make_one_lane() -> None:
    lanes = gpu_lanes(Resources(gpus=2), [gpu(n, 80) for n in range(5)], cpu_lanes(1))
    assert [lane.gpus for lane in lanes] == [("GPU-0", "GPU-1"), ("GPU-2", "GPU-3")]


class _Divided:
    """NVML on a host whose second of two GPUs is divided into two slices; no such host can be had for a test."""

    NVMLError, NVML_DEVICE_MIG_ENABLE, nvmlMemory_v2 = pynvml.NVMLError, 1, 2  # noqa: N815
    NVML_CLOCK_SM = NVML_CLOCK_MEM = NVML_TEMPERATURE_GPU = 0
    NAMES: ClassVar = {"a": "GPU-a", "b": "GPU-b", "b0": "MIG-b0", "b2": "MIG-b2"}

    def __getattr__(self, name: str) -> Callable[..., object]:
        answers: dict[str, Callable[..., object]] = {
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: "ab"[index],
            "nvmlDeviceGetMigMode": lambda handle: {"b": [1, 1]}[handle],
            "nvmlDeviceGetMaxMigDeviceCount": lambda handle: {"b": 7}[handle],
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda handle, number: {0: "b0", 2: "b2"}[number],
            "nvmlDeviceGetUUID": self.NAMES.__getitem__,
            "nvmlDeviceGetMemoryInfo": lambda handle, _: SimpleNamespace(
                total=(80 if handle == "a" else 20) << 30, used=0
            ),
        }

        def answer(*asked: object) -> object:
            try:
                return answers[name](*asked)
            except KeyError:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED) from None

        return answer


def test_each_slice_of_a_divided_gpu_is_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_opened", _Divided)
    lanes = gpu_lanes(Resources(gpus=1), nvml.gpus(), cpu_lanes(1))
    assert [lane.gpus for lane in lanes] == [("GPU-a",), ("MIG-b0",), ("MIG-b2",)]
    assert [lane.gpus for lane in gpu_lanes(Resources(gpus=1, gpu_memory_gib=40), nvml.gpus(), cpu_lanes(1))] == [
        ("GPU-a",)
    ]


def test_a_process_cannot_have_two_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_opened", _Divided)
    with pytest.raises(InfraError, match=r"needs 2 NVIDIA GPU\(s\); this host has 1 of 3"):
        gpu_lanes(Resources(gpus=2), nvml.gpus(), cpu_lanes(1))


def test_only_visible_gpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-2")
    lanes = gpu_lanes(Resources(gpus=1), [gpu(n, 80) for n in range(4)], cpu_lanes(1))
    assert [lane.gpus for lane in lanes] == [("GPU-1",), ("GPU-2",)]


def test_an_empty_list_of_visible_gpus_hides_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InfraError, match=r"needs 1 NVIDIA GPU"):
        gpu_lanes(Resources(gpus=1), [gpu(0, 80)], cpu_lanes(1))


def test_locks_are_in_one_place_whatever_a_users_tmpdir_is(tmp_path: Path) -> None:
    program = (sys.executable, "-c", "from omniperf.measure import lanes; print(lanes._LOCKS)")
    places = {
        subprocess.run(program, env={**os.environ, "TMPDIR": tmpdir}, capture_output=True, check=True).stdout
        for tmpdir in (str(tmp_path), "/var/tmp")
    }
    assert len(places) == 1


@pytest.mark.parametrize("present", [[], [gpu(0, 8)]], ids=["none", "too small"])
def test_a_host_without_the_gpus_is_a_clear_error(present: list[Gpu]) -> None:
    with pytest.raises(InfraError, match=rf"needs 1 NVIDIA GPU\(s\) with 16 GiB; this host has 0 of {len(present)}"):
        gpu_lanes(Resources(gpus=1, gpu_memory_gib=16), present, cpu_lanes(1))


def test_lanes_that_share_a_core_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "_LOCKS", tmp_path)
    wide, narrow, waited = Lane((4, 5)), Lane((5,)), []
    with claimed((wide,)):
        child = os.fork()
        if child == 0:
            with claimed((narrow, Lane((6,)))) as lane:
                os._exit(0 if lane.cores == (6,) else 1)
        assert os.waitpid(child, 0)[1] == 0
    with claimed((narrow,), waiting=lambda: waited.append(1)):
        assert not waited


def _child(work: Callable[[], None]) -> int:
    """A process that does that; it ends with the test."""
    if not (pid := os.fork()):
        code = 1
        try:
            os.closerange(3, 256)  # the locks that the test holds would be this one's too
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def _in_line(folder: Path, count: int) -> None:
    """Return when so many wait, as their tickets and the kernel's list of locks say."""
    deadline = time.monotonic() + 30
    while len(list((folder / "waiting").iterdir())) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def lanes_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lanes_module, "_LOCKS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("several", [False, True], ids=["one lane", "any of two"])
def test_who_waits_first_has_the_first_turn(lanes_at: Path, several: bool) -> None:
    """Also where one that waits is killed: those behind it take its place."""
    one, other, log = Lane((5,)), Lane((6,)), lanes_at / "order"

    def wait(name: str) -> Callable[[], None]:
        def work() -> None:
            with claimed((one, other) if several else (one,)), log.open("a") as file:
                file.write(name)

        return work

    children = {}
    with claimed((other,)):
        with claimed((one,)):
            for at, name in enumerate("abcdef"):
                children[name] = _child(wait(name))
                _in_line(lanes_at, at + 1)
            for killed in "ad":
                os.kill(children[killed], signal.SIGKILL)
                assert os.waitpid(children.pop(killed), 0)[1] == signal.SIGKILL
        for name, pid in children.items():
            assert os.waitpid(pid, 0)[1] == 0, name
    assert log.read_text() == "bcef"
    with claimed((one,)):
        assert list((lanes_at / "waiting").iterdir()) == [], "tickets of the dead are deleted by who finds them"


def test_who_comes_back_again_and_again_does_not_overtake(lanes_at: Path) -> None:
    """An agent that takes the lane time after time lets a verification in at its first turn."""
    lane, log = Lane((5,)), lanes_at / "order"

    def verify() -> None:
        with claimed((lane,)), log.open("a") as file:
            file.write("V")

    with claimed((lane,)):
        child = _child(verify)
        _in_line(lanes_at, 1)
    for _ in range(3):
        with claimed((lane,)), log.open("a") as file:
            file.write("a")
    assert os.waitpid(child, 0)[1] == 0
    assert log.read_text() == "Vaaa"


def test_a_ticket_keeps_nobody_waiting_who_wants_something_else(lanes_at: Path) -> None:
    busy, free = Lane((5,)), Lane((6,))
    with claimed((busy,)):
        child = _child(lambda: claimed((busy,)).__enter__() and None)
        _in_line(lanes_at, 1)
        with claimed((free,), waiting=lambda: pytest.fail("it is free")):
            pass
    assert os.waitpid(child, 0)[1] == 0


def test_those_who_want_several_gpus_at_once_never_wait_for_each_other(lanes_at: Path) -> None:
    """Four processes, each of which wants two of three GPUs time after time, in whatever order it names them."""
    pairs = [("GPU-0", "GPU-1"), ("GPU-1", "GPU-2"), ("GPU-2", "GPU-0"), ("GPU-1", "GPU-0")]

    def work(pair: tuple[str, str]) -> Callable[[], None]:
        def many() -> None:
            for _ in range(30):
                with claimed((Lane((5,), pair),)):
                    for uuid in pair:  # nobody else has it: a file that must not be there yet
                        (lanes_at / uuid).touch(exist_ok=False)
                    for uuid in pair:
                        (lanes_at / uuid).unlink()

        return many

    children = [_child(work(pair)) for pair in pairs]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
