"""States one at a time: whether a speedup of batches is one of single runs too.

All states of a batch are in the worker's memory before the clock starts. A patch that finds them there can work on all
of them at once in its first call, which with a library of arrays is many times as fast, and hand the results out later.
The outputs are right and the batch is shorter, but whoever has one state at hand waits as long as before. So before an
improvement is claimed, processes of both arms get one state after another, each made when the one before is done.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.measure.arms import sealed
from omniperf.measure.clock import Worker, WorkloadError
from omniperf.measure.lanes import find_lanes
from omniperf.measure.order import arm_order, seeds
from omniperf.measure.pairs import BaseError, CandidateError, OutputsDifferError
from omniperf.measure.statistics import hl_interval
from omniperf.measure.zygote import ZygoteError, Zygotes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from omniperf.measure.clock import Arm
    from omniperf.measure.compare import Comparer
    from omniperf.measure.lanes import LaneClock
    from omniperf.measure.zygote import Zygote
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Task

_FEWEST_BLOCKS, _MOST_BLOCKS = 2, 6  # of two pairs
_MOST_ROUNDS, _FEWEST_ROUNDS, _ROUNDS_SECONDS = 16, 2, 0.1  # in a process
_CERTAIN = 0.90
_SHARE = 0.5  # of the gain that batches show, as a log ratio: certainly less says that it is the batch's alone


@dataclass(frozen=True)
class Alone:
    """States one at a time in `pairs` pairs of processes; `speedup` is base over candidate, of medians.

    `missing` says that certainly less than half of the gain that batches show is there.
    """

    pairs: int
    speedup: float
    missing: bool


def measured_alone(
    backend: Backend,
    task: Task,
    base: Arm,
    candidate: Arm,
    runs: tuple[float, float],
    seconds: float,
    secret: bytes,
    preload: Sequence[str],
    comparer: Comparer | None,
    record: Callable[[Mapping[str, object]], None],
    held: LaneClock,
) -> Alone:
    """Run states one at a time in fresh processes of both arms, in random blocks, until it is certain what that gains.

    `runs` are the seconds of one run in a batch, on base and with the patch, `seconds` those after which a step counts
    as not finishing. `preload` is what a zygote imports for the processes, `held` counts the lane. Outputs are
    compared. For workloads of the kind `module`. Raises BaseError or CandidateError.
    """
    rounds = max(_FEWEST_ROUNDS, min(_MOST_ROUNDS, round(_ROUNDS_SECONDS / runs[0])))
    taken: dict[str, list[float]] = {"A": [], "B": []}
    overheads: list[float] = []
    lanes = find_lanes(task.resources)

    def one_process(arm: Arm, letter: str, drawn: list[int], zygote: Zygote | None) -> list[bytes]:
        try:
            with Worker(backend, arm, task, "module", zygote) as worker:
                run, overhead, outputs = _rounds(worker, drawn, seconds)
        except (ZygoteError, WorkloadError) as error:
            if zygote is not None:  # whatever it was, a fresh interpreter has the last word
                zygotes.give_up()
                return one_process(arm, letter, drawn, None)
            said = f"The workload fails, one state at a time: {error}"
            raise (BaseError if letter == "A" else CandidateError)(said) from error
        taken[letter].append(run)
        if letter == "A":  # the other's could be made as long as its patch likes
            overheads.append(overhead)
        return outputs

    with Zygotes(backend, preload) as zygotes:
        for block in range(_MOST_BLOCKS):
            order = arm_order(secret, "alone", block)
            with held.hold(lanes) as lane:
                arms = {"A": sealed(base, lane), "B": sealed(candidate, lane)}
                zygote = _zygote(zygotes, list(arms.values()))
                for half in (order[:2], order[2:]):
                    number = len(taken["A"])
                    drawn = seeds(secret, "alone", number, 1 + rounds)
                    outputs = {}
                    for letter in half:
                        outputs[letter] = one_process(arms[letter], letter, drawn, zygote if zygotes.used else None)
                    for mine, reference in zip(outputs["B"], outputs["A"], strict=True):
                        if comparer is not None and (difference := comparer.difference(mine, reference, 1)):
                            raise OutputsDifferError(f"The outputs are not base's, one state at a time: {difference}")
                    last = {"base": taken["A"][-1], "candidate": taken["B"][-1]}
                    record({"phase": "verify", "label": "alone", "pair": number, "order": half, "seeds": drawn, **last})
                zygotes.settle()
            # A round has the overhead of its own pipe and digest, which shrinks the ratio that is to be expected.
            overhead = statistics.median(overheads)
            wanted = _SHARE * math.log((runs[0] + overhead) / (runs[1] + overhead))
            both = zip(taken["A"], taken["B"], strict=True)
            least, most = hl_interval([math.log(one / other) for one, other in both], _CERTAIN)
            if block + 1 >= _FEWEST_BLOCKS and (most < wanted or least > wanted):
                break
    speedup = statistics.median(taken["A"]) / statistics.median(taken["B"])
    return Alone(len(taken["A"]), speedup, most < wanted)


def _zygote(zygotes: Zygotes, arms: list[Arm]) -> Zygote | None:
    try:
        return zygotes.of_block(arms)
    except ZygoteError:
        zygotes.give_up()
        return None


def _rounds(worker: Worker, drawn: list[int], seconds: float) -> tuple[float, float, list[bytes]]:
    """Median seconds of a run and of a digest alone, and the outputs, of one process. The first seed warms up."""
    times, overheads, outputs = [], [], []
    for seed in drawn:
        worker.setup([seed], seconds)
        taken, digest = worker.run(seconds)
        overheads.append(worker.again(seconds))
        outputs.append(worker.output(seconds))
        if hashlib.sha256(outputs[-1]).hexdigest() != digest:
            raise WorkloadError("the digest that stopped the clock is not the digest of the outputs")
        times.append(taken)
    return statistics.median(times[1:]), statistics.median(overheads[1:]), outputs[1:]
