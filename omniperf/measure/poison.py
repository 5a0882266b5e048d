"""Poisoned memory: whether a patch reads what it never wrote.

`torch.empty` and numpy's hand out memory as it is, which is mostly zeros in a fresh process: a patch that leaves out a
needed zero passes every comparison by luck. So the candidate runs once more in a worker whose new arrays hold NaN and
the largest integers, and its outputs must be base's even then. Memory that a compiled extension takes for itself is
not poisoned, nor is what constructors of array types (`numpy.ndarray(shape)`, `torch.Tensor(n)`) and `resize_` take.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from omniperf.measure.arms import on_lane
from omniperf.measure.clock import Timing, Worker, WorkloadError, sample
from omniperf.measure.lanes import claimed, find_lanes

if TYPE_CHECKING:
    from omniperf.measure.clock import Arm
    from omniperf.measure.compare import Comparer
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Task

_STATES = 2
_SECONDS = 120.0


def poisoned_output(
    backend: Backend, arm: Arm, task: Task, kind: str, seeds: list[int], seconds: float = _SECONDS
) -> tuple[tuple[str, ...], bytes]:
    """Run one state a seed with poisoned memory; return the libraries whose arrays are so, and the outputs.

    For workloads of the kind `module`. Raises WorkloadError.
    """
    with (
        claimed(find_lanes(task.resources)) as lane,
        Worker(backend, on_lane(replace(arm, poison=True), lane), task, kind) as worker,
    ):
        worker.setup(seeds, seconds)
        worker.run(seconds)
        output = worker.output(seconds)
        return worker.poisoned(), output


def poisoned_difference(backend: Backend, task: Task, kind: str, base: Arm, candidate: Arm, comparer: Comparer) -> str:
    """How a candidate's outputs differ from base's while its memory is poisoned; "" where they do not.

    Raises WorkloadError where base itself fails, in memory as it is.
    """
    seeds = [secrets.randbits(63) for _ in range(1 + _STATES)]
    with claimed(find_lanes(task.resources)) as lane:
        reference = sample(backend, on_lane(base, lane), task, kind, seeds, Timing(_STATES, _SECONDS))
    try:
        _, output = poisoned_output(backend, candidate, task, kind, seeds[1:], _SECONDS + 30 * reference.total)
    except WorkloadError as error:
        return str(error)
    return comparer.difference(output, reference.output, _STATES)
