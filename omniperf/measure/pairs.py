"""Paired measurement: fresh processes in random ABBA or BAAB blocks, until the rule has decided."""

from __future__ import annotations

import math
import re
import statistics
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.measure.arms import on_lane, sealed
from omniperf.measure.clock import Timing, WorkloadError, sample
from omniperf.measure.device import disturbance, settled
from omniperf.measure.lanes import LaneClock, find_lanes
from omniperf.measure.order import arm_order, seeds
from omniperf.measure.statistics import LOOKS, Decision, decide
from omniperf.results.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omniperf.measure.clock import Arm, Sample
    from omniperf.measure.compare import Comparer
    from omniperf.measure.lanes import Lane
    from omniperf.results.events import Emit
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Measure, Task

_SAMPLE_SECONDS = 0.1  # a batch is at least this long on the slower arm, where one state is shorter
_OVERHEAD_SHARE = 0.01  # pipe and digest may take this share of a sample
_BASE_SECONDS = 2.0  # a batch made longer for a fast candidate's sake may take base no longer than this
_MOST_STATES = 256
_SETUP_SECONDS = 2.0  # that making the states of a batch may take
_REST_SECONDS = 60.0  # after so long without a sample, one of each arm is discarded
_MOST_DISCARDED = 8  # tries of one pair on a disturbed device


class CandidateError(Exception):
    """The candidate's workload failed, or its outputs are not base's."""


class OutputsDifferError(CandidateError):
    """The candidate's outputs are not base's."""


class BaseError(Exception):
    """Base's own workload failed, so nothing can be said of a candidate."""


@dataclass(frozen=True)
class Plan:
    """What decides order, seeds and length of one measurement.

    `warm_states` fresh seeds are compared before anything is timed. With `give_up` the measurement ends after the first
    block where neither of its pairs shows `min_effect`: right for screening, where no claim is made.
    """

    measure: Measure
    secret: bytes
    label: str
    looks: tuple[int, ...] = LOOKS
    phase: str = "verify"
    warm_states: int = 3
    give_up: bool = False


@dataclass
class Pairs:
    """All that was measured: one entry a pair in every list, times in seconds, memory in MiB.

    `states` is the number of runs in a batch; times are of batches. `last_look` is what the rule said last, `decision`
    what it decided, or None.
    """

    states: int = 1
    base: list[Sample] = field(default_factory=list)
    candidate: list[Sample] = field(default_factory=list)
    decision: Decision | None = None
    last_look: Decision | None = None
    lane_seconds: float = 0.0
    lane_waited: float = 0.0
    samples: int = 0
    discarded: int = 0
    compared: int = 0
    seeds: int = 0

    def log_ratios(self, metric: str) -> list[float]:
        """ln(base) - ln(candidate) a pair, for `latency` or `peak_memory`."""
        name = {"latency": "seconds", "peak_memory": "peak_memory"}[metric]
        both = zip(self.base, self.candidate, strict=True)
        return [math.log(getattr(one, name)) - math.log(getattr(other, name)) for one, other in both]

    def printed(self, task: Task) -> dict[str, float]:
        """The median of the figure that a script prints of itself, for each arm; empty where it prints none."""
        assert task.workload is not None
        found = {}
        for name, arm in (("base", self.base), ("candidate", self.candidate)):
            figures = [figure for one in arm if (figure := _figure(task.workload.printed, one.printed)) is not None]
            if figures:
                found[name] = statistics.median(figures)
        return found

    def medians(self, metric: str) -> tuple[float, float]:
        """Medians of base and candidate; of a single run where the metric is a time."""
        name, share = {"latency": ("seconds", self.states), "peak_memory": ("peak_memory", 1)}[metric]
        base, candidate = ([getattr(one, name) / share for one in arm] for arm in (self.base, self.candidate))
        return statistics.median(base), statistics.median(candidate)


def measure_pairs(
    backend: Backend,
    task: Task,
    kind: str,
    base: Arm,
    candidate: Arm,
    plan: Plan,
    comparer: Comparer | None,
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
) -> Pairs:
    """Measure pairs until the rule decides, the last look is reached, or the time is up (`decision` is None then).

    Every timed output is compared with base's through `comparer`; None means that outputs cannot be compared.
    Raises CandidateError or BaseError.
    """
    pairs, lane_clock = Pairs(), LaneClock()
    lanes = find_lanes(task.resources)
    metric = task.primary_metric.name
    deadline = time.monotonic() + plan.measure.max_minutes * 60

    def take(arm: Arm, drawn: list[int], timing: Timing) -> Sample:
        pairs.samples += 1
        try:
            return sample(backend, arm, task, kind, drawn, timing)
        except WorkloadError as error:
            if arm.name == base.name:
                raise BaseError(f"The workload fails on base: {error}.") from error
            raise CandidateError(f"The workload fails with the patch: {error}") from error

    def undisturbed(
        lane: Lane, arms: Mapping[str, Arm], half: str, number: int
    ) -> tuple[list[int], dict[str, Sample], dict[str, object]]:
        """A pair whose GPUs nothing disturbed: its seeds, its samples, and the state of its GPUs afterwards."""
        for _ in range(_MOST_DISCARDED):
            label = f"{plan.label}:redone-{pairs.discarded}" if pairs.discarded else plan.label
            drawn = seeds(plan.secret, label, number, 1 + pairs.states)
            states, taken = [settled(lane.gpus)], {}
            for letter in half:
                taken[letter] = take(arms[letter], drawn, timing)
                states.append(settled(lane.gpus))
            reason = next(filter(None, (disturbance(*pair) for pair in pairwise(states))), "")
            if not reason:
                return drawn, taken, {"gpus": [state.record() for state in states[-1]]} if lane.gpus else {}
            pairs.discarded += 1
            record({"phase": plan.phase, "label": plan.label, "pair": number, "discarded": reason})
        raise InfraError("device", f"The GPU cannot be measured on: {reason}.", "Stop what disturbs it.")

    def compare(mine: Sample, reference: Sample, count: int) -> None:
        pairs.seeds += count
        if comparer is None:
            return
        difference = comparer.difference(mine.warm_output, reference.warm_output, 1) if kind == "module" else ""
        difference = difference or comparer.difference(mine.output, reference.output, count)
        if difference:
            raise OutputsDifferError(f"The outputs are not base's: {difference}")
        pairs.compared += count

    def waiting() -> None:
        emit(Event(plan.phase, "waiting for another measurement on this host", {"transient": True}))

    try:
        with lane_clock.hold(lanes, waiting) as lane:
            drawn = seeds(plan.secret, f"{plan.label}:warm-up", 0, 1 + plan.warm_states)
            warm_base = take(on_lane(base, lane), drawn, Timing(plan.warm_states))
            limit = _limit(warm_base.total)
            warm_candidate = take(on_lane(candidate, lane), drawn, Timing(plan.warm_states, limit))
            compare(warm_candidate, warm_base, plan.warm_states)
            if kind == "module" and metric == "latency":
                pairs.states = _states(warm_base, warm_candidate, plan.warm_states)
        timing = Timing(pairs.states, _limit(pairs.states * warm_base.total))
        last, rested = max(plan.looks), time.monotonic()
        while pairs.decision is None:
            block = len(pairs.base) // 2
            order = arm_order(plan.secret, plan.label, block)
            with lane_clock.hold(lanes, waiting) as lane:
                arms = {"A": sealed(base, lane), "B": sealed(candidate, lane)}
                if time.monotonic() - rested > _REST_SECONDS:  # others had the lane: its state is not what it was
                    drawn = seeds(plan.secret, f"{plan.label}:warm-again", block, 1 + pairs.states)
                    for letter in "AB":
                        take(arms[letter], drawn, timing)
                for half in (order[:2], order[2:]):
                    number = len(pairs.base)
                    drawn, taken, devices = undisturbed(lane, arms, half, number)
                    for kept, letter in ((pairs.base, "A"), (pairs.candidate, "B")):
                        # outputs are large, and needed only below
                        kept.append(replace(taken[letter], output=b"", warm_output=b""))
                    record({**_pair_record(plan, number, half, drawn, taken, lane.name), **devices})
                    compare(taken["B"], taken["A"], pairs.states)
                    counted = {"pairs": number + 1, "max_pairs": last, "transient": True}
                    emit(Event(plan.phase, "measuring base and candidate in turn", counted))
                    if number + 1 in plan.looks:
                        found = decide(
                            pairs.log_ratios(metric), plan.measure, plan.looks, counter=metric == "peak_memory"
                        )
                        pairs.last_look = found
                        _say(plan, number + 1, last, found, emit)
                        if found.state != "continue":
                            pairs.decision = found
                            break
            rested = time.monotonic()
            hopeless = (
                plan.give_up and block == 0 and max(pairs.log_ratios(metric)) < math.log1p(plan.measure.min_effect)
            )
            if hopeless or time.monotonic() - lane_clock.waited > deadline:
                break
    finally:
        pairs.lane_seconds, pairs.lane_waited = lane_clock.seconds, lane_clock.waited
    return pairs


def _figure(pattern: str | None, printed: str) -> float | None:
    found = re.search(pattern, printed) if pattern else None
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def _limit(seconds: float) -> float:
    """After how long a step of the candidate counts as not finishing, given what base needs."""
    return 60.0 + 30.0 * seconds


def _states(base: Sample, candidate: Sample, warm_states: int) -> int:
    """How many states a batch needs so that it is long enough to be timed, and the clock's own cost is small."""
    one_base, one_candidate = base.seconds / warm_states, candidate.seconds / warm_states
    overhead = max(base.overhead, candidate.overhead)
    for_length = math.ceil(_SAMPLE_SECONDS / max(one_base, one_candidate))
    # The overhead of a batch grows slower than the batch, so this errs towards more states than are needed.
    for_overhead = math.ceil(overhead / _OVERHEAD_SHARE / min(one_base, one_candidate))
    affordable = max(1, math.floor(_BASE_SECONDS / max(one_base, one_candidate)))
    one_setup = max(base.setup, candidate.setup) / warm_states
    made_in_time = math.floor(_SETUP_SECONDS / one_setup) if one_setup > 0 else _MOST_STATES
    wanted = min(max(for_length, for_overhead), max(affordable, for_length), _MOST_STATES)
    return max(1, min(wanted, made_in_time))


def _pair_record(
    plan: Plan, number: int, half: str, drawn: list[int], taken: dict[str, Sample], lane: str
) -> dict[str, object]:
    def shown(one: Sample) -> dict[str, object]:
        return {
            "seconds": one.seconds,
            "overhead": one.overhead,
            "imported": one.imported,
            "setup": one.setup,
            "peak_memory": one.peak_memory,
            "digest": one.digest,
        }

    return {
        "phase": plan.phase,
        "label": plan.label,
        "pair": number,
        "order": half,
        "seeds": drawn,
        "base": shown(taken["A"]),
        "candidate": shown(taken["B"]),
        "lane": lane,
        "ended": time.time(),
    }


def _say(plan: Plan, count: int, last: int, found: Decision, emit: Emit) -> None:
    estimate = found.estimate
    data = {
        "pairs": count,
        "max_pairs": last,
        "speedup": estimate.speedup,
        "low": estimate.interval.low,
        "high": estimate.interval.high,
    }
    emit(Event(plan.phase, "measuring base and candidate in turn", data))
