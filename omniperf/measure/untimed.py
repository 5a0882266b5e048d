"""Runs that are not timed: what a tree makes of fresh states, of other shapes, and what it does to its inputs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from omniperf.measure.clock import Worker, WorkloadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omniperf.measure.clock import Arm
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Task

_FRESH_STATES = 3
# What a second process is told that a first one is not: nothing of it may matter to an output.
_ARGUMENTS = ["--again"]
_ELSEWHERE = {
    "USER": "somebody", "LOGNAME": "somebody", "HOME": "/tmp", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "",  # noqa: S108
    "VIRTUAL_ENV": "", "OLDPWD": "/", "SHLVL": "2",
}  # fmt: skip


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


@dataclass(frozen=True)
class Asked:
    """Two seeds, of which the second's state takes the first one's place, and one for processes told something else."""

    renewed: tuple[int, int]
    elsewhere: int


@dataclass(frozen=True)
class Probed:
    """What came of asking in other ways: outputs, or None where it could not be asked, and what went wrong, or "".

    `renewed` are the outputs of a state and of another one in the very same object. `second` is the output in a second
    process, whose command line and environment differ, in the sandbox of the first.
    """

    renewed: bytes | None = None
    second: bytes | None = None
    renewed_failed: str = ""
    second_failed: str = ""


def fresh_questions() -> Asked:
    """Seeds that nobody has seen."""
    return Asked((secrets.randbits(63), secrets.randbits(63)), secrets.randbits(63))


def fresh_groups(task: Task) -> list[Group]:
    """A few states as they are timed, and one of each of the task's `shapes`, from seeds that nobody has seen."""

    def drawn(count: int) -> list[int]:
        return [secrets.randbits(63) for _ in range(count)]

    return [Group(drawn(_FRESH_STATES)), *(Group(drawn(1), shape) for shape in task.shapes)]


def run_untimed(backend: Backend, arm: Arm, task: Task, groups: Sequence[Group], seconds: float) -> list[Ran]:
    """Run every state of the groups in one process, each in so many seconds. For workloads of the kind `module`.

    Raises WorkloadError.
    """
    with Worker(backend, arm, task, "module") as worker:
        return [_ran(worker, group, seconds) for group in groups]


def run_probed(
    backend: Backend, arm: Arm, task: Task, groups: Sequence[Group], asked: Asked, seconds: float
) -> tuple[list[Ran], Probed]:
    """As `run_untimed`, and then in the same sandbox what probes ask, where what goes wrong is an answer."""
    with Worker(backend, arm, task, "module") as worker:
        found = [_ran(worker, group, seconds) for group in groups]
        renewed, second, failed = None, None, ["", ""]
        try:
            renewed = worker.output(seconds) if worker.renew(asked.renewed, 2 * seconds) else None
        except WorkloadError as error:
            failed[0] = str(error)
        try:
            worker.afresh(_ARGUMENTS, _ELSEWHERE)
            second = _ran(worker, Group([asked.elsewhere]), seconds).output
        except WorkloadError as error:
            failed[1] = str(error)
    return found, Probed(renewed, second, *failed)


def run_elsewhere(backend: Backend, arm: Arm, task: Task, asked: Asked, seconds: float) -> bytes:
    """What `Probed.second` is, in a process that is the first in its sandbox. Raises WorkloadError."""
    spec = replace(arm.spec, env={**arm.spec.env, **_ELSEWHERE})
    with Worker(backend, replace(arm, spec=spec), task, "module", arguments=_ARGUMENTS) as worker:
        return _ran(worker, Group([asked.elsewhere]), seconds).output


def _ran(worker: Worker, group: Group, seconds: float) -> Ran:
    limit = seconds * len(group.seeds)
    worker.setup(group.seeds, limit, group.shape)
    worker.look(limit)
    worker.run(limit)
    return Ran(worker.output(limit), *worker.kept(limit))


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
