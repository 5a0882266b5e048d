"""Paired measurement: fresh processes in random ABBA or BAAB blocks, until the rule has decided."""

from __future__ import annotations

import math
import os
import re
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.measure.arms import on_lane, sealed
from omniperf.measure.clock import Timing, WorkloadError, sample
from omniperf.measure.device import disturbance, host_disturbance, host_state, settled
from omniperf.measure.lanes import LaneClock, find_lanes
from omniperf.measure.order import arm_order, seeds
from omniperf.measure.statistics import Decision, decide, looks_of
from omniperf.measure.zygote import ZygoteError, Zygotes
from omniperf.results.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from omniperf.measure.clock import Arm, Sample
    from omniperf.measure.compare import Comparer
    from omniperf.measure.lanes import Lane
    from omniperf.measure.zygote import Zygote
    from omniperf.results.events import Emit
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Measure, Metric, Task

# A batch is at least this long on the slower arm, where one state is shorter. Where a process takes longer to start, it
# is as long as that: on GPUs that Python keeps busy, levels 5 to 10 % apart were seen to last for a tenth of a second.
_SAMPLE_SECONDS, _LONGER_SECONDS = 0.1, 0.5
_OVERHEAD_SHARE = 0.005  # pipe and digest may take this share of a sample
_BASE_SECONDS = 2.0  # a batch made longer for a fast candidate's sake may take base no longer than this
_MOST_STATES = 256
_SETUP_SECONDS = 2.0  # that making the states of a batch may take
_REST_SECONDS = 60.0  # after so long without a sample, one of each arm is discarded
_MOST_DISCARDED = 8  # tries of one pair on a disturbed device
_FEW_DISCARDED, _DISCARDED_SHARE = 3, 0.25  # so many, and of all pairs: on such a device no verdict is given
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
    found = Pairs()
    with Zygotes(backend, plan.preload) as zygotes:
        measuring = _Measuring(backend, task, kind, base, candidate, plan, comparer, record, emit, found, zygotes)
        try:
            measuring.warm_up()
            while found.decision is None and not found.stopped and len(found.base) != plan.fixed:
                measuring.block()
        finally:
            found.lane_seconds, found.lane_waited = measuring.clock.seconds, measuring.clock.waited
    return found


@dataclass
class _Measuring:
    """A measurement under way."""

    backend: Backend
    task: Task
    kind: str
    base: Arm
    candidate: Arm
    plan: Plan
    comparer: Comparer | None
    record: Callable[[Mapping[str, object]], None]
    emit: Emit
    found: Pairs
    zygotes: Zygotes

    def __post_init__(self) -> None:
        self.clock, self.lanes = LaneClock(), find_lanes(self.task.resources)
        self.looks = looks_of(self.plan.measure) if self.plan.looks is None else self.plan.looks
        self.last = self.plan.fixed or max(self.looks)
        self.deadline = time.monotonic() + self.plan.measure.max_minutes * 60
        self.rested, self.timing = time.monotonic(), Timing()

    def warm_up(self) -> None:
        """Run a few states of both arms, which compiles what is compiled when used, and settle how long a batch is."""
        plan, found = self.plan, self.found
        with self.lane() as lane:
            arms = {"A": on_lane(self.base, lane), "B": on_lane(self.candidate, lane)}
            drawn = seeds(plan.secret, f"{plan.label}:warm-up", 0, 1 + plan.warm_states)
            self.timing = Timing(plan.warm_states)
            base, zygote = self.first_of_all(arms, drawn)
            self.timing = Timing(plan.warm_states, _limit(base.total))
            candidate = self.warm(arms["B"], drawn, zygote)
            self.compare(candidate, base, plan.warm_states if self.kind == "module" else 1)
        if self.kind == "module" and self.task.primary_metric.name == "latency":
            found.states = _states(base, candidate, plan.warm_states)
        one = (base.setup + base.seconds) / plan.warm_states
        self.timing = Timing(found.states, _limit(base.imported + found.states * one))
        self.rested = time.monotonic()

    def first_of_all(self, arms: Mapping[str, Arm], drawn: list[int]) -> tuple[Sample, Zygote | None]:
        """Base's first sample, which shows whether a zygote can serve here, and the zygote where it can."""
        try:
            zygote = self.zygotes.of_block([*arms.values()], keep=True)
            if zygote is not None:
                first = sample(self.backend, arms["A"], self.task, self.kind, drawn, self.timing, zygote)
                self.found.samples, self.found.forked = 1, True
                return first, zygote
        except (ZygoteError, WorkloadError) as error:
            self.no_zygote(str(error))
        return self.take(arms["A"], drawn, None), None

    def block(self) -> None:
        """Measure two pairs in random order, as far as they are wanted, and decide where a look is due."""
        plan, found = self.plan, self.found
        block = len(found.base) // 2
        order = arm_order(plan.secret, plan.label, block)
        with self.lane() as lane:
            arms = {"A": on_lane(self.base, lane), "B": on_lane(self.candidate, lane)}
            zygote = self.zygote(arms)
            arms = {letter: sealed(arm, lane) for letter, arm in arms.items()}
            if time.monotonic() - self.rested > _REST_SECONDS:  # others had the lane: its state is not what it was
                drawn = seeds(plan.secret, f"{plan.label}:warm-again", block, 1 + found.states)
                for letter in "AB":
                    self.warm(arms[letter], drawn, zygote if found.forked else None)
            for half in (order[:2], order[2:]):
                self.pair(lane, arms, half, zygote if found.forked else None)
                found.stopped = self.disturbed()
                if found.stopped or len(found.base) == plan.fixed or (plan.fixed is None and self.decided()):
                    return
        self.rested = time.monotonic()
        found.stopped = self.why_stop()

    def zygote(self, arms: Mapping[str, Arm]) -> Zygote | None:
        """The zygote for a block, None where fresh interpreters serve."""
        try:
            return self.zygotes.of_block([*arms.values()])
        except ZygoteError as error:
            self.no_zygote(str(error))
            return None

    def no_zygote(self, why: str = "") -> None:
        """From now on, fresh interpreters."""
        if why:
            self.record({"phase": self.plan.phase, "label": self.plan.label, "zygote": f"not used: {why}"})
        self.zygotes.give_up()
        self.found.forked = False

    def pair(self, lane: Lane, arms: Mapping[str, Arm], half: str, zygote: Zygote | None) -> None:
        """Measure a pair that nothing disturbed, and keep it."""
        plan, found, number, reason = self.plan, self.found, len(self.found.base), ""
        for _ in range(_MOST_DISCARDED):
            began = time.time()
            label = f"{plan.label}:redone-{found.discarded}" if found.discarded else plan.label
            drawn = seeds(plan.secret, label, number, _WARM_UPS + found.states)
            hosts, devices, taken = [host_state(lane.cores)], [settled(lane.gpus)], {}
            try:
                for letter in half:
                    taken[letter] = self.take(arms[letter], drawn, zygote)
                    hosts.append(host_state(lane.cores))
                    devices.append(settled(lane.gpus))
            except ZygoteError as error:
                self.no_zygote()
                zygote, reason = None, f"the zygote failed: {error}"
            else:
                reasons = (disturbance(*pair) for pair in pairwise(devices))
                reason = next(filter(None, (*reasons, *(host_disturbance(*pair) for pair in pairwise(hosts)))), "")
            if not reason:
                break
            found.discarded += 1
            self.record({"phase": plan.phase, "label": plan.label, "pair": number, "discarded": reason})
        else:
            raise InfraError("device", f"Nothing can be measured here: {reason}.", "Stop what disturbs it, or wait.")
        for kept, letter in ((found.base, "A"), (found.candidate, "B")):
            kept.append(replace(taken[letter], output=b"", warm_output=b""))  # outputs are large, and needed only below
        gpus = {"gpus": [one.record() for one in devices[-1]]} if lane.gpus else {}
        load = {"load": round(os.getloadavg()[0], 2)}
        self.record({**_pair_record(plan, number, half, drawn, taken, lane.name, began), **load, **gpus})
        self.compare(taken["B"], taken["A"], found.states)
        counted = {"pairs": number + 1, "max_pairs": self.last, "transient": True}
        self.emit(Event(plan.phase, "measuring base and candidate in turn", counted))

    def decided(self) -> bool:
        """Ask the rule where a look is due, and say whether that was the end."""
        plan, found, metric = self.plan, self.found, self.task.primary_metric
        if len(found.base) not in self.looks:
            return False
        look = decide(
            found.log_ratios(metric), plan.measure, self.looks,
            counter=metric.name == "peak_memory", claims=plan.claims, floor=plan.floor,
        )  # fmt: skip
        found.last_look = look
        _say(plan, len(found.base), self.last, look, self.emit)
        if look.state != "continue":
            found.decision = look
        return found.decision is not None

    def disturbed(self) -> str:
        """Why nothing can be said of a host that disturbs so much, or ""."""
        discarded, tries = self.found.discarded, self.found.discarded + len(self.found.base)
        if discarded >= _FEW_DISCARDED and discarded > _DISCARDED_SHARE * tries:
            return f"{discarded} of {tries} pairs were disturbed and discarded"
        return ""

    def why_stop(self) -> str:
        """Why no further block is worth measuring, or ""."""
        plan, found = self.plan, self.found
        least = math.log1p(plan.measure.min_effect)
        if plan.give_up and len(found.base) == 2 and max(found.log_ratios(self.task.primary_metric)) < least:
            return "the first pairs show no gain worth measuring"
        if plan.fixed is None and time.monotonic() - self.clock.waited > self.deadline:
            return f"{plan.measure.max_minutes:g} minutes were not enough for a decision"
        return ""

    def warm(self, arm: Arm, drawn: list[int], zygote: Zygote | None) -> Sample:
        """A sample that is no part of a pair: where the zygote fails, from a fresh interpreter."""
        try:
            return self.take(arm, drawn, zygote)
        except ZygoteError as error:
            self.no_zygote(str(error))
            return self.take(arm, drawn, None)

    def take(self, arm: Arm, drawn: list[int], zygote: Zygote | None) -> Sample:
        """A sample. Raises BaseError or CandidateError, ZygoteError for whatever goes wrong in a forked one.

        A package may take badly to being forked, so a fresh interpreter has the last word.
        """
        self.found.samples += 1
        try:
            return sample(self.backend, arm, self.task, self.kind, drawn, self.timing, zygote)
        except WorkloadError as error:
            if zygote is not None:
                raise ZygoteError(str(error)) from error
            if arm.name == self.base.name:
                raise BaseError(f"The workload fails on base: {error}.") from error
            raise CandidateError(f"The workload fails with the patch: {error}") from error

    def compare(self, mine: Sample, reference: Sample, count: int) -> None:
        """Compare the candidate's outputs with base's. Raises OutputsDifferError."""
        self.found.seeds += count
        if mine.completed != reference.completed:
            said = f"{mine.completed:,} requests completed, base's were {reference.completed:,}, with the same seed."
            raise OutputsDifferError(f"The outputs are not base's: {said}")
        if self.comparer is None:
            return
        of_warm_up = self.kind == "module" and self.comparer.difference(mine.warm_output, reference.warm_output, 1)
        difference = of_warm_up or self.comparer.difference(mine.output, reference.output, count)
        if difference:
            raise OutputsDifferError(f"The outputs are not base's: {difference}")
        self.found.compared += count

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """Hold a lane, and say so where it has to be waited for."""
        said = Event(self.plan.phase, "waiting for another measurement on this host", {"transient": True})
        with self.clock.hold(self.lanes, lambda: self.emit(said)) as lane:
            yield lane
            self.zygotes.settle()


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
    length = max(_SAMPLE_SECONDS, min(base.imported, _LONGER_SECONDS))
    for_length = math.ceil(length / max(one_base, one_candidate))
    for_overhead = max(_states_for(base, one_base, warm_states), _states_for(candidate, one_candidate, warm_states))
    affordable = max(1, math.floor(_BASE_SECONDS / max(one_base, one_candidate)))
    one_setup = max(base.setup, candidate.setup) / warm_states
    made_in_time = math.floor(_SETUP_SECONDS / one_setup) if one_setup > 0 else _MOST_STATES
    wanted = min(max(for_length, for_overhead), max(affordable, for_length), _MOST_STATES)
    return max(1, min(wanted, made_in_time))


def _states_for(warm: Sample, one: float, warm_states: int) -> int:
    """How many states a batch needs so that what its overhead has beside a part for each state is a small share.

    That part grows as the batch does: where it takes most of the share, no batch is long enough, and at most twice as
    many states are asked for as without it.
    """
    for_each = max(0.0, warm.overhead - warm.warm_overhead) / max(1, warm_states - 1)
    once = max(0.0, warm.overhead - warm_states * for_each)
    share = _OVERHEAD_SHARE * one
    return math.ceil(once / max(share - for_each, share / 2))


def _pair_record(
    plan: Plan, number: int, half: str, drawn: list[int], taken: dict[str, Sample], lane: str, began: float
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
        "began": began,
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
