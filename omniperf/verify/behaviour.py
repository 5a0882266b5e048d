"""Whether a candidate does as base does, before anything is timed: fresh states, shapes, memory, inputs, precision."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.measure.arms import on_lane, poisoned
from omniperf.measure.clock import WorkloadError
from omniperf.measure.lanes import find_lanes
from omniperf.measure.untimed import (
    Group,
    Probed,
    fresh_groups,
    fresh_questions,
    run_elsewhere,
    run_probed,
    run_reference,
)
from omniperf.results.schema import Correctness, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omniperf.measure.bench import Bench
    from omniperf.measure.clock import Arm
    from omniperf.measure.compare import Comparer
    from omniperf.measure.lanes import LaneClock
    from omniperf.measure.untimed import Asked, Ran
    from omniperf.verify.preflight import Preflight

_SECONDS = 120.0  # for a state of base
# What a state of the candidate may take, in memory that is slow to spoil: so long, and so many times base's process.
_AT_LEAST, _TIMES = 5.0, 10.0


def check_behaviour(
    bench: Bench, proved: Preflight, base: Arm, candidate: Arm, held: LaneClock
) -> tuple[str, Correctness, tuple[Finding, ...]]:
    """Why the candidate is incorrect, or "", what was checked, and what probes found. For workloads of kind `module`.

    The candidate runs with poisoned memory where base stands that. What goes wrong there is tried once more in memory
    as it is: what then goes well was read before it was written. Raises OmniPerfError where base itself fails.
    """
    if bench.kind != "module":
        return "", Correctness(), ()
    task, groups, asked = bench.task, fresh_groups(bench.task), fresh_questions()
    with held.hold(find_lanes(task.resources)) as lane, proved.comparer(bench, base) as comparer:
        base, candidate = on_lane(base, lane), on_lane(candidate, lane)
        started = time.monotonic()
        try:
            (*expected, fresh), answers = run_probed(
                bench.backend, base, task, [*groups, Group(list(asked.renewed))], asked, _SECONDS
            )
            if answers.renewed is None or comparer.difference(answers.renewed, fresh.output, 2):
                answers = replace(answers, renewed=None)  # base itself does not stand it
            limit = _AT_LEAST + _TIMES * (time.monotonic() - started)
            exact = run_reference(bench.backend, base, task, groups, _SECONDS) if proved.own_reference else None
        except WorkloadError as error:
            raise OmniPerfError(f"The workload fails on base: {error}.", "Run `omniperf tasks validate`.") from error
        spoilt = poisoned(candidate) if proved.poisonable else candidate
        said, found, others = _tried(bench, spoilt, groups, asked, expected, comparer, limit)
        if said and proved.poisonable:
            plainly, _, _ = _tried(bench, candidate, groups, asked, expected, comparer, limit)
            if not plainly:
                reason = (
                    "With memory spoilt that was never written, the outputs are not base's: some is read unwritten."
                )
                return reason, Correctness(memory_written=False, detail=said), ()
            said = plainly
        if said:
            return said, Correctness(outputs_equal=False, detail=said), ()
        both = list(zip(expected, found, strict=True))
        changed = sorted(place for one, other in both for place in one.kept & other.changed)
        looked_at = all(one.kept and one.kept <= other.kept for one, other in both)
        checked = Correctness(
            memory_written=True if proved.poisonable else None,
            inputs_kept=False if changed else looked_at or None,
            fresh_states=len(groups[0].seeds),
            shapes_compared=len(task.shapes),
        )
        if changed:
            said = f"run changes its input where base's does not: {', '.join(changed[:3])}."
            return said, checked.model_copy(update={"detail": said}), ()
        if exact is not None:
            for group, one, other, true in zip(groups, expected, found, exact, strict=True):
                if said := comparer.precision_loss(other.output, one.output, true, len(group.seeds)):
                    return said, checked.model_copy(update={"precision_kept": False, "detail": said}), ()
            checked = checked.model_copy(update={"precision_kept": True})
        said, finding = _asked_otherwise(bench, comparer, candidate, asked, answers, others, limit)
        if finding is not None:
            return said, checked.model_copy(update={"outputs_equal": False, "detail": finding.evidence}), (finding,)
        asked_of_both = {"identity-cache": answers.renewed, "second-process": answers.second}
        stood = tuple(name for name, answer in asked_of_both.items() if answer is not None)
    return "", checked.model_copy(update={"probes_held": stood}), ()


def _tried(
    bench: Bench,
    candidate: Arm,
    groups: Sequence[Group],
    asked: Asked,
    expected: Sequence[Ran],
    comparer: Comparer,
    seconds: float,
) -> tuple[str, list[Ran], Probed]:
    """How the candidate's outputs differ from base's, or "", what it came to, and what it answered to probes."""
    try:
        found, probed = run_probed(bench.backend, candidate, bench.task, groups, asked, seconds)
    except WorkloadError as error:
        return f"The workload fails with the patch: {error}", [], Probed()
    for group, one, other in zip(groups, expected, found, strict=True):
        if difference := comparer.difference(other.output, one.output, len(group.seeds)):
            shape = f" with {dict(group.shape)}" if group.shape else ""
            return f"The outputs are not base's{shape}: {difference}", found, probed
    return "", found, probed


def _asked_otherwise(
    bench: Bench, comparer: Comparer, candidate: Arm, asked: Asked, base: Probed, probed: Probed, seconds: float
) -> tuple[str, Finding | None]:
    """Why the candidate is incorrect where it is asked in another way, and the finding; nothing where base fails."""
    if base.renewed is not None and (said := _wrong(comparer, probed.renewed, probed.renewed_failed, base.renewed, 2)):
        reason = "The outputs are not base's where an object that was an input before holds another input."
        remedy = "Key what is kept by what it was made of, or do not keep it."
        return reason, Finding(id="identity-cache", severity="reject", message=reason, evidence=said, remedy=remedy)
    if base.second is None or not (said := _wrong(comparer, probed.second, probed.second_failed, base.second, 1)):
        return "", None
    try:
        alone, failed = run_elsewhere(bench.backend, candidate, bench.task, asked, seconds), ""
    except WorkloadError as error:
        alone, failed = None, str(error)
    if first := _wrong(comparer, alone, failed, base.second, 1):
        reason = "The outputs are not base's with another command line and environment."
        remedy = "Do the same whoever asks."
        return reason, Finding(id="environment-probe", severity="reject", message=reason, evidence=first, remedy=remedy)
    reason = "The outputs are not base's in a second process, after a first one in the same sandbox."
    remedy = "Keep nothing outside the process."
    return reason, Finding(id="second-process", severity="reject", message=reason, evidence=said, remedy=remedy)


def _wrong(comparer: Comparer, found: bytes | None, failed: str, expected: bytes, seeds: int) -> str:
    """How an answer differs from base's, or why there is none; "" where it does not."""
    return comparer.difference(found, expected, seeds) if found is not None else failed or "it gave no answer"
