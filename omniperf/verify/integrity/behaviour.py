"""What measuring saw of how a candidate comes to its times, and what could not be looked at."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.measure.statistics import hl_interval
from omniperf.verify.integrity.rules import rule, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.measure.alone import Alone
    from omniperf.measure.bench import Bench
    from omniperf.measure.clock import Sample
    from omniperf.measure.pairs import Pairs
    from omniperf.results.schema import Finding
    from omniperf.verify.integrity.rules import Room
    from omniperf.verify.preflight import Preflight
    from omniperf.workspace.patch import Patch

Said = tuple[str, str]  # what is found, and the evidence

_MOVED_SHARE = 0.5  # of the time saved: as much again in preparation says that work was moved, not removed
_SLOWER_IMPORT_SHARE, _SLOWER_IMPORT_SECONDS = 0.25, 0.02  # of base's, and beyond the noise of starting a process
_UNSEEN_SHARE, _UNSEEN_SECONDS = 0.10, 0.001  # of a batch that the GPU's own clock may miss

_ASKS_UNWRITTEN = re.compile(rb"^\+.*\b(?:new_)?empty(?:_like|_strided|_permuted)?\(.*", re.M)
# What takes memory that no poison reaches: other libraries' memory of GPUs.
ESCAPES_POISON = re.compile(
    rb"^\+.*(?:\b(?:cupy|cp)\.(?:empty\w*|ndarray)\(|\bdevice_array(?:_like)?\(|\bcudaMalloc\w*\().*", re.M
)


@dataclass(frozen=True)
class Measured:
    """What was seen of a candidate: its pairs, and its states one at a time where an improvement is claimed."""

    bench: Bench
    pairs: Pairs
    alone: Alone | None

    @property
    def both(self) -> list[tuple[Sample, Sample]]:
        """The samples of each pair, base's first."""
        return list(zip(self.pairs.base, self.pairs.candidate, strict=True))

    @property
    def gains(self) -> bool:
        """Whether an improvement would be claimed."""
        return self.pairs.decision is not None and self.pairs.decision.state == "improved"

    @property
    def of_start_up(self) -> bool:
        """Whether the start-up is what the task is about."""
        return self.bench.task.primary_metric.name == "startup"


def inspect_behaviour(measured: Measured) -> tuple[Finding, ...]:
    """What the rules find in what was measured."""
    return _inspect("behaviour", measured)


def inspect_unchecked(bench: Bench, proved: Preflight, patch: Patch) -> tuple[Finding, ...]:
    """What could not be looked at, and by this patch would have had to be."""
    return _inspect("unchecked", bench, proved, patch)


def _inspect(room: Room, *seen: object) -> tuple[Finding, ...]:
    said = ((each, *one) for each in rules_of(room) for one in each.check(*seen))
    return tuple(finding for each, message, evidence in said for finding in each.finding([evidence], message))


@rule("behaviour", "clock-tampering", "reject", "Leave the functions that tell the time alone.")
def clock_tampering(measured: Measured) -> Iterator[Said]:
    """A clock inside the candidate's process was something else when it was looked at.

    Only the outer clock is ever used, so it cannot have gained anything; it was meant to.
    """
    both = measured.both
    if replaced := sorted({name for one, other in both for name in {*other.replaced} - {*one.replaced}}):
        message = f"The patch puts something else in the place of {', '.join(replaced)}."
        yield message, f"seen in the candidate's processes, of {len(both)} pairs"


@rule("behaviour", "clock-disagreement", "warn", "Read whether work runs on streams that are not joined.")
def clock_disagreement(measured: Measured) -> Iterator[Said]:
    """The GPU's own clock saw less of a batch than ours did, and than it saw of base."""
    both = measured.both
    unseen = [
        (other.seconds - other.overhead - other.device_seconds) - (one.seconds - one.overhead - one.device_seconds)
        for one, other in both
        if one.device_seconds is not None and other.device_seconds is not None
    ]
    length = statistics.median(other.seconds for _, other in both)
    if unseen and abs(statistics.median(unseen)) > _UNSEEN_SECONDS + _UNSEEN_SHARE * length:
        message = f"The GPU's clock and ours differ by {statistics.median(unseen):+.4f} s more than on base."
        yield message, f"medians of {len(unseen)} pairs of {length:.3f} s; the verdict is by our clock"


@rule(
    "behaviour", "only-in-batches", "reject",
    "Make each run faster: a caller has one state at hand, not the next ones too.",
)  # fmt: skip
def only_in_batches(measured: Measured) -> Iterator[Said]:
    """States that come one at a time are certainly not that much faster."""
    pairs, alone = measured.pairs, measured.alone
    if alone is None or not alone.missing:
        return
    base, candidate = pairs.medians(measured.bench.task.primary_metric)
    together, single = f"{base / candidate:.3f}", f"{alone.speedup:.3f}"
    message = f"States got {together} times as fast in a batch, {single} times one at a time."
    yield message, f"{pairs.states} states a batch; {alone.pairs} pairs of processes with one state at a time"


@rule("behaviour", "moved-work", "reject", "Make the work less, not earlier or later.")
def moved_work(measured: Measured) -> Iterator[Said]:
    """A claimed gain certainly (90 % interval) came back where it is not timed.

    Making the states is no part of the workload, so time that went there was moved; where start-up is timed, so is
    time that went into the work after it.
    """
    both, kind = measured.both, measured.bench.kind
    if not measured.gains:
        return
    if measured.of_start_up:
        gain = statistics.median(one.startup - other.startup for one, other in both)
        # A command's time includes its start-up, a load generator's does not.
        included = 1 if kind == "command" else 0
        later = [other.seconds - one.seconds - included * (other.startup - one.startup) for one, other in both]
        what, where = "Start-up", "the work after it"
    elif kind in ("module", "service"):
        gain = statistics.median(one.seconds - other.seconds for one, other in both)
        later = [other.setup - one.setup for one, other in both]
        what, where = "The timed region", "set-up"
    else:
        return
    back, _ = hl_interval(later, 0.90)
    if back >= _MOVED_SHARE * gain > 0:
        yield f"{what} got {gain:.3f} s shorter, {where} at least {back:.3f} s longer.", f"{len(both)} pairs"


@rule("behaviour", "slower-import", "warn", "Weigh it: importing happens once a process.")
def slower_import(measured: Measured) -> Iterator[Said]:
    """Importing, or a service's start, certainly (90 % interval) takes longer.

    Both happen once for many runs: that is the reader's to weigh.
    """
    pairs, both = measured.pairs, measured.both
    if not measured.gains or measured.of_start_up or measured.bench.kind not in ("module", "service"):
        return
    gain = statistics.median(one.seconds - other.seconds for one, other in both)
    later, _ = hl_interval([other.imported - one.imported for one, other in both], 0.90)
    before, after = (statistics.median(one.imported for one in arm) for arm in (pairs.base, pairs.candidate))
    if later >= max(_SLOWER_IMPORT_SECONDS, _SLOWER_IMPORT_SHARE * before):
        runs = math.ceil((after - before) * pairs.states / gain) if gain > 0 else None
        worth = f", which {runs:,} runs win back" if runs else ""
        yield f"Start and import take {after:.3f} s instead of {before:.3f} s{worth}.", f"medians of {len(both)} pairs"


@rule("unchecked", "memory-not-checked", "warn", "Read whether every element is written before it is read.")
def memory_not_checked(_bench: Bench, proved: Preflight, patch: Patch) -> Iterator[Said]:
    """The patch may take unwritten memory, and nothing could show that it writes all it reads."""
    found = ESCAPES_POISON.search(patch.data)
    message = "The patch may take memory unwritten, and in a way that poisoning does not reach."
    if not proved.poisonable:
        found = _ASKS_UNWRITTEN.search(patch.data) or found
        message = "The patch may take memory unwritten, and this workload could not be run with poisoned memory."
    if found is not None:
        yield message, found[0].decode("utf-8", "replace")


@rule("unchecked", "reach-not-checked", "info", "Read whether the workload runs what the patch changes.")
def reach_not_checked(bench: Bench, _proved: Preflight, _patch: Patch) -> Iterator[Said]:
    """The task says that nobody can see what its workload reaches."""
    if bench.task.workload is not None and bench.task.workload.reach is not None:
        yield "That the workload runs code of the targets was not checked: the task says `reach: none`.", ""
