"""Runs that are not timed: what a tree makes of fresh states, of other shapes, and what it does to its inputs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omniperf.measure.clock import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omniperf.measure.clock import Arm
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Task

_FRESH_STATES = 3


@dataclass(frozen=True)
class Group:
    """States of one shape: a fresh seed for each, and what `setup` is given besides."""

    seeds: list[int]
    shape: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """What a group came to: its outputs as a worker writes them, and the places in its states that `run` kept or not.

    What is opaque in a state is in neither.
    """

    output: bytes
    kept: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()


def fresh_groups(task: Task) -> list[Group]:
    """A few states as they are timed, and one of each of the task's `shapes`, from seeds that nobody has seen."""

    def drawn(count: int) -> list[int]:
        return [secrets.randbits(63) for _ in range(count)]

    return [Group(drawn(_FRESH_STATES)), *(Group(drawn(1), shape) for shape in task.shapes)]


def run_untimed(backend: Backend, arm: Arm, task: Task, groups: Sequence[Group], seconds: float) -> list[Ran]:
    """Run every state of the groups in one process, each in so many seconds. For workloads of the kind `module`.

    Raises WorkloadError.
    """
    found = []
    with Worker(backend, arm, task, "module") as worker:
        for group in groups:
            limit = seconds * len(group.seeds)
            worker.setup(group.seeds, limit, group.shape)
            worker.look(limit)
            worker.run(limit)
            output = worker.output(limit)
            found.append(Ran(output, *worker.kept(limit)))
    return found


def run_reference(backend: Backend, base: Arm, task: Task, groups: Sequence[Group], seconds: float) -> list[bytes]:
    """The outputs that the workload's own `reference` makes of the same states, made anew. Raises WorkloadError."""
    found = []
    with Worker(backend, base, task, "module") as worker:
        for group in groups:
            limit = seconds * len(group.seeds)
            worker.setup(group.seeds, limit, group.shape)
            worker.refer(limit)
            found.append(worker.output(limit))
    return found
