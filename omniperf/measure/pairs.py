"""Paired measurement: fresh processes in random ABBA or BAAB blocks, until the rule has decided."""

from __future__ import annotations

import math
import os
import re
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.measure.arms import on_lane, sealed
from omniperf.measure.clock import Timing, Worker, WorkloadError, sample
from omniperf.measure.device import disturbance, host_disturbance, host_state, settled
from omniperf.measure.lanes import LaneClock, find_lanes
from omniperf.measure.order import arm_order, seeds
from omniperf.measure.statistics import Decision, decide, looks_of
from omniperf.measure.zygote import ZygoteError, Zygotes
from omniperf.results.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omniperf.measure.clock import Arm, Sample
    from omniperf.measure.compare import Comparer
    from omniperf.measure.lanes import Lane
    from omniperf.measure.zygote import Zygote
    from omniperf.results.events import Emit
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Measure, Metric, Task

_SAMPLE_SECONDS = 0.1  # a batch is at least this long on the slower arm, where one state is shorter
_OVERHEAD_SHARE = 0.005  # pipe and digest may take this share of a sample
_BASE_SECONDS = 2.0  # a batch made longer for a fast candidate's sake may take base no longer than this
_MOST_STATES = 256
_SETUP_SECONDS = 2.0  # that making the states of a batch may take
_REST_SECONDS = 60.0  # after so long without a sample, one of each arm is discarded
_MOST_DISCARDED = 8  # tries of one pair on a disturbed device
_DISCARDED_SHARE = 0.25  # of all pairs: on such a device no verdict is given
_WARM_UPS = 5  # at most, in a process


class CandidateError(Exception):
    """The candidate's workload failed, or its outputs are not base's."""


class OutputsDifferError(CandidateError):
    """The candidate's outputs are not base's."""


class BaseError(Exception):
    """Base's own workload failed, so nothing can be said of a candidate."""


@dataclass(frozen=True)
class Plan:
    """What decides order, seeds and length of one measurement.

    `looks` is None for those of `measure`; `claims` is how many share its alpha. A warm-up of `warm_states` says how
    long a batch must be. `preload` names the modules that a zygote imports for the samples; nothing means fresh
    interpreters. With `give_up` the measurement ends after the first block where neither of its pairs shows
    `min_effect`: right for screening, where no claim is made. With `fixed` exactly so many pairs are measured, however
    long that takes, and nothing is decided. `floor` is the noise floor, a ratio minus one, which a claim must exceed.
    """

    measure: Measure
    secret: bytes
    label: str
    looks: tuple[int, ...] | None = None
    claims: int = 1
    phase: str = "verify"
    warm_states: int = 3
    give_up: bool = False
    preload: tuple[str, ...] = ()
    fixed: int | None = None
    floor: float = 0.0


@dataclass
class Pairs:
    """All that was measured: one entry a pair in every list, times in seconds, memory in MiB.

    `states` is the number of runs in a batch; times are of batches. `last_look` is what the rule said last, `decision`
    what it decided, or None, and then `stopped` says why. `forked` says that the samples came from a zygote.
    """

    states: int = 1
    base: list[Sample] = field(default_factory=list)
    candidate: list[Sample] = field(default_factory=list)
    decision: Decision | None = None
    last_look: Decision | None = None
    stopped: str = ""
    forked: bool = False
    lane_seconds: float = 0.0
    lane_waited: float = 0.0
    samples: int = 0
    discarded: int = 0
    compared: int = 0
    seeds: int = 0

    def log_ratios(self, metric: Metric) -> list[float]:
        """ln(base) - ln(candidate) a pair, or the reverse where more is better: above zero the candidate is better."""
        sign = 1 if metric.direction == "lower" else -1
        both = zip(self.base, self.candidate, strict=True)
        return [sign * (math.log(_value(one, metric)) - math.log(_value(other, metric))) for one, other in both]

    def printed(self, task: Task) -> dict[str, float]:
        """The medians of the figures that a process prints of itself, for each arm; empty where it prints none."""
        assert task.workload is not None
        shown = {}
        for name, arm in (("base", self.base), ("candidate", self.candidate)):
            own = [figure for one in arm if (figure := _figure(task.workload.printed, one.printed)) is not None]
            if own:
                shown[name] = statistics.median(own)
            for metric in task.metrics if task.workload.stated_kind != "service" else ():
                if metric.reading is not None and arm:
                    shown[f"{name} {metric.name}"] = self._median(arm, metric)
        return shown

    def medians(self, metric: Metric) -> tuple[float, float]:
        """Medians of base and candidate; of a single run where the metric is the latency."""
        return self._median(self.base, metric), self._median(self.candidate, metric)

    def _median(self, arm: list[Sample], metric: Metric) -> float:
        share = self.states if metric.name == "latency" else 1
        return statistics.median(_value(one, metric) / share for one in arm)


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
    metric = task.primary_metric
    deadline = time.monotonic() + plan.measure.max_minutes * 60

    def take(arm: Arm, drawn: list[int], timing: Timing, zygote: Zygote | None = None) -> Sample:
        pairs.samples += 1
        try:
            return sample(backend, arm, task, kind, drawn, timing, zygote)
        except WorkloadError as error:
            if arm.name == base.name:
                raise BaseError(f"The workload fails on base: {error}.") from error
            raise CandidateError(f"The workload fails with the patch: {error}") from error

    def undisturbed(
        lane: Lane, arms: Mapping[str, Arm], half: str, number: int, zygote: Zygote | None
    ) -> tuple[list[int], dict[str, Sample], dict[str, object]]:
        """A pair that nothing disturbed: its seeds, its samples, and the state of its devices afterwards."""
        reason = ""
        for _ in range(_MOST_DISCARDED):
            label = f"{plan.label}:redone-{pairs.discarded}" if pairs.discarded else plan.label
            drawn = seeds(plan.secret, label, number, _WARM_UPS + pairs.states)
            hosts, states, taken = [host_state(lane.cores)], [settled(lane.gpus)], {}
            try:
                for letter in half:
                    taken[letter] = take(arms[letter], drawn, timing, zygote)
                    hosts.append(host_state(lane.cores))
                    states.append(settled(lane.gpus))
            except ZygoteError as error:
                zygotes.give_up()
                zygote, reason = None, f"the zygote failed: {error}"
            else:
                reasons = (disturbance(*pair) for pair in pairwise(states))
                reason = next(filter(None, (*reasons, *(host_disturbance(*pair) for pair in pairwise(hosts)))), "")
            if not reason:
                seen: dict[str, object] = {"load": round(os.getloadavg()[0], 2)}
                return drawn, taken, {**seen, "gpus": [one.record() for one in states[-1]]} if lane.gpus else seen
            pairs.discarded += 1
            record({"phase": plan.phase, "label": plan.label, "pair": number, "discarded": reason})
        raise InfraError("device", f"Nothing can be measured here: {reason}.", "Stop what disturbs it, or wait.")

    def forked(arms: Mapping[str, Arm]) -> Zygote | None:
        """The zygote of a block; before the first, a worker is forked on base to see whether one can run here."""
        try:
            zygote = zygotes.of_block([arms["A"], arms["B"]])
            if zygote is not None and not pairs.forked:
                with Worker(backend, arms["A"], task, kind, zygote) as worker:
                    worker.setup(seeds(plan.secret, f"{plan.label}:zygote", 0, 1), timing.seconds)
                    worker.run(timing.seconds)
                pairs.forked = True
        except (ZygoteError, WorkloadError) as error:
            record({"phase": plan.phase, "label": plan.label, "zygote": f"not used: {error}"})
            zygotes.give_up()
            return None
        return zygote

    def compare(mine: Sample, reference: Sample, count: int) -> None:
        pairs.seeds += count
        if mine.completed != reference.completed:
            said = f"{mine.completed:,} requests completed, base's were {reference.completed:,}, with the same seed."
            raise OutputsDifferError(f"The outputs are not base's: {said}")
        if comparer is None:
            return
        difference = comparer.difference(mine.warm_output, reference.warm_output, 1) if kind == "module" else ""
        difference = difference or comparer.difference(mine.output, reference.output, count)
        if difference:
            raise OutputsDifferError(f"The outputs are not base's: {difference}")
        pairs.compared += count

    def waiting() -> None:
        emit(Event(plan.phase, "waiting for another measurement on this host", {"transient": True}))

    stack = ExitStack()
    try:
        with lane_clock.hold(lanes, waiting) as lane:
            drawn = seeds(plan.secret, f"{plan.label}:warm-up", 0, 1 + plan.warm_states)
            warm_base = take(on_lane(base, lane), drawn, Timing(plan.warm_states))
            limit = _limit(warm_base.total)
            warm_candidate = take(on_lane(candidate, lane), drawn, Timing(plan.warm_states, limit))
            compare(warm_candidate, warm_base, plan.warm_states if kind == "module" else 1)
            if kind == "module" and metric.name == "latency":
                pairs.states = _states(warm_base, warm_candidate, plan.warm_states)
        timing = Timing(pairs.states, _limit(pairs.states * warm_base.total))
        looks = looks_of(plan.measure) if plan.looks is None else plan.looks
        last, rested = plan.fixed or max(looks), time.monotonic()
        zygotes = stack.enter_context(Zygotes(backend, plan.preload))
        while pairs.decision is None and len(pairs.base) != plan.fixed:
            block = len(pairs.base) // 2
            order = arm_order(plan.secret, plan.label, block)
            with lane_clock.hold(lanes, waiting) as lane:
                arms = {"A": sealed(base, lane), "B": sealed(candidate, lane)}
                if time.monotonic() - rested > _REST_SECONDS:  # others had the lane: its state is not what it was
                    drawn = seeds(plan.secret, f"{plan.label}:warm-again", block, 1 + pairs.states)
                    for letter in "AB":
                        take(arms[letter], drawn, timing)
                zygote = forked(arms)
                for half in (order[:2], order[2:]):
                    number = len(pairs.base)
                    drawn, taken, devices = undisturbed(lane, arms, half, number, zygote if zygotes.used else None)
                    for kept, letter in ((pairs.base, "A"), (pairs.candidate, "B")):
                        # outputs are large, and needed only below
                        kept.append(replace(taken[letter], output=b"", warm_output=b""))
                    record({**_pair_record(plan, number, half, drawn, taken, lane.name), **devices})
                    compare(taken["B"], taken["A"], pairs.states)
                    counted = {"pairs": number + 1, "max_pairs": last, "transient": True}
                    emit(Event(plan.phase, "measuring base and candidate in turn", counted))
                    if number + 1 == plan.fixed:
                        break
                    if plan.fixed is None and number + 1 in looks:
                        found = decide(
                            pairs.log_ratios(metric), plan.measure, looks,
                            counter=metric.name == "peak_memory", claims=plan.claims, floor=plan.floor,
                        )  # fmt: skip
                        pairs.last_look = found
                        _say(plan, number + 1, last, found, emit)
                        if found.state != "continue":
                            pairs.decision = found
                            break
            rested = time.monotonic()
            hopeless = (
                plan.give_up and block == 0 and max(pairs.log_ratios(metric)) < math.log1p(plan.measure.min_effect)
            )
            disturbed = pairs.discarded > _MOST_DISCARDED and pairs.discarded > _DISCARDED_SHARE * len(pairs.base)
            late = plan.fixed is None and time.monotonic() - lane_clock.waited > deadline
            if hopeless or disturbed or late:
                pairs.stopped = (
                    f"{pairs.discarded} pairs were disturbed and discarded"
                    if disturbed
                    else f"{plan.measure.max_minutes:g} minutes were not enough for a decision"
                )
                break
    finally:
        stack.close()
        pairs.lane_seconds, pairs.lane_waited = lane_clock.seconds, lane_clock.waited
    return pairs


def _value(one: Sample, metric: Metric) -> float:
    """What a sample says of a metric."""
    field_name = {"latency": "seconds", "peak_memory": "peak_memory", "startup": "startup"}.get(metric.name)
    return one.figures[metric.name] if field_name is None else float(getattr(one, field_name))


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
            "device_seconds": one.device_seconds,
            "digest": one.digest,
            **({"startup": one.startup} if math.isfinite(one.startup) else {}),
            **({"figures": dict(one.figures)} if one.figures else {}),
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
