"""A lane is held by one at a time, on the whole host."""

import multiprocessing
import os
import time
from itertools import pairwise
from multiprocessing.connection import Connection

import pytest

from omniperf.errors import InfraError
from omniperf.measure.lanes import claimed, cpu_lanes


def test_lanes_are_disjoint_and_leave_a_core_for_the_harness() -> None:
    available = sorted(os.sched_getaffinity(0))
    cores = [core for lane in cpu_lanes(1) for core in lane.cores]
    assert len(cores) == len(set(cores))
    if len(available) > 1:
        assert available[0] not in cores


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
