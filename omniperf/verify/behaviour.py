"""Whether a candidate does as base does, before anything is timed: fresh states, shapes, memory, inputs, precision."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.measure.arms import on_lane, poisoned
from omniperf.measure.clock import WorkloadError
from omniperf.measure.lanes import find_lanes
from omniperf.measure.untimed import fresh_groups, run_reference, run_untimed
from omniperf.results.schema import Correctness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omniperf.measure.bench import Bench
    from omniperf.measure.clock import Arm
    from omniperf.measure.compare import Comparer
    from omniperf.measure.lanes import LaneClock
    from omniperf.measure.untimed import Group, Ran
    from omniperf.verify.preflight import Preflight

_SECONDS = 120.0  # for a state of base
# What a state of the candidate may take, in memory that is slow to spoil: so long, and so many times base's process.
_AT_LEAST, _TIMES = 5.0, 10.0


def check_behaviour(
    bench: Bench, proved: Preflight, base: Arm, candidate: Arm, held: LaneClock
) -> tuple[str, Correctness]:
    """Why the candidate is incorrect, or "", and what was checked. For workloads of the kind `module`.

    The candidate runs with poisoned memory where base stands that. What goes wrong there is tried once more in memory
    as it is: what then goes well was read before it was written. Raises OmniPerfError where base itself fails.
    """
    if bench.kind != "module":
        return "", Correctness()
    task, groups = bench.task, fresh_groups(bench.task)
    with held.hold(find_lanes(task.resources)) as lane, proved.comparer(bench, base) as comparer:
        base, candidate = on_lane(base, lane), on_lane(candidate, lane)
        started = time.monotonic()
        try:
            expected = run_untimed(bench.backend, base, task, groups, _SECONDS)
            limit = _AT_LEAST + _TIMES * (time.monotonic() - started)
            exact = run_reference(bench.backend, base, task, groups, _SECONDS) if proved.own_reference else None
        except WorkloadError as error:
            raise OmniPerfError(f"The workload fails on base: {error}.", "Run `omniperf tasks validate`.") from error
        spoilt = poisoned(candidate) if proved.poisonable else candidate
        said, found = _tried(bench, spoilt, groups, expected, comparer, limit)
        if said and proved.poisonable:
            plainly, _ = _tried(bench, candidate, groups, expected, comparer, limit)
            if not plainly:
                reason = (
                    "With memory spoilt that was never written, the outputs are not base's: some is read unwritten."
                )
                return reason, Correctness(memory_written=False, detail=said)
            said = plainly
        if said:
            return said, Correctness(outputs_equal=False, detail=said)
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
            return said, checked.model_copy(update={"detail": said})
        if exact is not None:
            for group, one, other, true in zip(groups, expected, found, exact, strict=True):
                if said := comparer.precision_loss(other.output, one.output, true, len(group.seeds)):
                    return said, checked.model_copy(update={"precision_kept": False, "detail": said})
            checked = checked.model_copy(update={"precision_kept": True})
    return "", checked


def _tried(
    bench: Bench, candidate: Arm, groups: Sequence[Group], expected: Sequence[Ran], comparer: Comparer, seconds: float
) -> tuple[str, list[Ran]]:
    """How the candidate's outputs differ from base's, or "", and what it came to."""
    try:
        found = run_untimed(bench.backend, candidate, bench.task, groups, seconds)
    except WorkloadError as error:
        return f"The workload fails with the patch: {error}", []
    for group, one, other in zip(groups, expected, found, strict=True):
        if difference := comparer.difference(other.output, one.output, len(group.seeds)):
            shape = f" with {dict(group.shape)}" if group.shape else ""
            return f"The outputs are not base's{shape}: {difference}", found
    return "", found
