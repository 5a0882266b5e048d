"""From a patch to a verdict: clean trees, scope, build, tests, outputs, and paired measurement."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.measure.alone import measured_alone
from omniperf.measure.arms import make_arm
from omniperf.measure.bytecode import add_bytecode
from omniperf.measure.calibration import stored
from omniperf.measure.lanes import LaneClock
from omniperf.measure.pairs import BaseError, CandidateError, OutputsDifferError, Pairs, Plan, measure_pairs
from omniperf.measure.statistics import decide, guard_held
from omniperf.results.events import Event
from omniperf.results.schema import Correctness, Cost, Finding, MetricResult, Verdict
from omniperf.tasks.schema import MEASURED
from omniperf.verify import scope
from omniperf.verify.behaviour import check_behaviour
from omniperf.verify.integrity.behaviour import Measured, inspect_behaviour, inspect_unchecked
from omniperf.verify.integrity.patch import inspect_patch
from omniperf.verify.integrity.rules import unrepeated
from omniperf.verify.pass_to_pass import Judged, judge
from omniperf.workspace.patch import PatchDoesNotApplyError, parse, text_at, without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omniperf.measure.bench import Bench
    from omniperf.measure.clock import Arm
    from omniperf.results.events import Emit
    from omniperf.results.schema import Estimate
    from omniperf.tasks.schema import Measure
    from omniperf.verify.preflight import Preflight
    from omniperf.workspace.patch import Patch
    from omniperf.workspace.worktree import Workspace


def verify_patch(
    bench: Bench,
    data: bytes,
    proved: Preflight,
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
    *,
    claims: int = 1,
    versus_human: bool = False,
) -> Verdict:
    """Measure what a diff against base is worth. Trusts nothing but what it does itself.

    `claims` is how many verdicts share the confidence that the task asks for: the attempts of a run on it.
    Precedence: no_patch, invalid, rejected, incorrect, then what the measurement says. Raises OmniPerfError only where
    base itself or the host fails; whatever the patch does ends in a verdict.
    """
    started = time.monotonic()
    verdict = _verify(bench, data, proved, record, emit, claims=claims, versus_human=versus_human)
    cost = verdict.cost.model_copy(update={"wall_seconds": time.monotonic() - started})
    verdict = verdict.model_copy(update={"cost": cost})
    emit(Event("verify", f"{verdict.class_}: {verdict.reason}", {}))
    return verdict


def _verify(
    bench: Bench,
    data: bytes,
    proved: Preflight,
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
    *,
    claims: int,
    versus_human: bool,
) -> Verdict:
    if not data.strip():
        return Verdict(class_="no_patch", reason="There is no patch.")
    try:
        patch = parse(bench.seal, data)
    except PatchDoesNotApplyError as error:
        return Verdict(class_="invalid", reason=str(error))
    if not patch.files:
        return Verdict(class_="no_patch", reason="The patch leaves the tree as it is.")
    found = scope.findings(patch, bench.task)
    if not scope.rejects(found):
        text = partial(text_at, bench.seal.git_dir, bench.seal.commit)
        found = (*inspect_patch(patch, text, bench.task), *found)
    if scope.rejects(found):
        return Verdict(class_="rejected", reason=found[0].message, findings=found)
    verdict = _examined(bench, patch, proved, record, emit, claims=claims, versus_human=versus_human)
    return verdict.model_copy(update={"findings": unrepeated((*verdict.findings, *found))})


def _examined(
    bench: Bench,
    patch: Patch,
    proved: Preflight,
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
    *,
    claims: int,
    versus_human: bool,
) -> Verdict:
    """Build a patch, test it, compare what it does, and measure it."""
    with ExitStack() as stack:
        base = stack.enter_context(bench.tree("base"))
        candidate = stack.enter_context(bench.tree("candidate", patch.data))
        if (failed := bench.build(base)) is not None:
            raise OmniPerfError(f"The build {failed.ending} on base.", "Correct the task.", output=failed.output)
        emit(Event("verify", "building and testing the patch in a clean tree", {}))
        if (failed := bench.build(candidate, tuple(file.path for file in patch.files))) is not None:
            return Verdict(class_="invalid", reason=f"The patch does not build: a command {failed.ending}.",
                           correctness=Correctness(detail=failed.output[-2000:]))  # fmt: skip
        tests = _tests(bench, proved, patch)
        tested = Correctness(tests_passed=tests.passed, tests_set_aside=tests.aside, detail=tests.detail)
        if tests.finding is not None:
            return Verdict(
                class_="rejected", reason=tests.finding.message, correctness=tested, findings=(tests.finding,)
            )
        if tests.passed is False:
            reason = "The task's tests pass on base and fail with the patch."
            return Verdict(class_="incorrect", reason=reason, correctness=tested)
        add_bytecode(bench, base, proved.imported)
        add_bytecode(bench, candidate, proved.imported, [file.path for file in patch.files])
        caches = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omniperf-")))
        arms = (
            _arm(bench, proved, "base", base, caches),
            _arm(bench, proved, "candidate", candidate, caches),
        )
        emit(Event("verify", "comparing what the patch does with what base does, in spoilt memory", {}))
        held = LaneClock()
        wrong, correctness, probed = check_behaviour(bench, proved, *arms, held)
        of_tests = {"tests_passed": tested.tests_passed, "tests_set_aside": tested.tests_set_aside}
        correctness = correctness.model_copy(update=of_tests)
        if wrong:
            cost = Cost(lane_seconds=held.seconds)
            return Verdict(class_="incorrect", reason=wrong, correctness=correctness, findings=probed, cost=cost)
        unchecked = inspect_unchecked(bench, proved, patch)
        if any(finding.id == "memory-not-checked" for finding in unchecked):
            correctness = correctness.model_copy(update={"memory_written": None})
        known = stored(bench)
        floor = known.noise.floor if known else None
        verdict = _measured(bench, proved, arms, record, emit, correctness, held, claims=claims, floor=floor)
        verdict = verdict.model_copy(update={"findings": (*verdict.findings, *unchecked)})
        if versus_human and verdict.speedup is not None:
            verdict = _versus_human(bench, proved, arms[1], caches, verdict, record, emit)
    return verdict


def _arm(bench: Bench, proved: Preflight, name: str, workspace: Workspace, caches: Path) -> Arm:
    export = proved.exported == "in the worker"
    return make_arm(name, bench.task, bench.environment, bench.backend, workspace, caches, export=export)


def _tests(bench: Bench, proved: Preflight, patch: Patch) -> Judged:
    """Judge the patch by the task's tests, the test files being base's.

    Only `allow_protected` lets a patch touch test files at all; it may change them, but not be judged by them.
    """
    if proved.tests is None:
        return Judged(None)
    return judge(bench, proved.tests, without(bench.seal, patch, scope.TESTS).data)


def _measured(
    bench: Bench,
    proved: Preflight,
    arms: tuple[Arm, Arm],
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
    correctness: Correctness,
    held: LaneClock,
    *,
    claims: int,
    floor: float | None,
) -> Verdict:
    """Compare outputs, measure pairs, and say what they say, and add it to what is known of correctness.

    `held` has counted the lane so far.
    """
    task, base = bench.task, arms[0]
    secret = secrets.token_bytes(32)
    plan = Plan(task.measure, secret, "verify", claims=claims, preload=proved.forkable, floor=floor or 0.0)
    emit(Event("verify", "measuring base and candidate in pairs", {}))
    sworn = {"seed_commitment": hashlib.sha256(secret).hexdigest(), "seed_secret": secret.hex()}
    record({"phase": "verify", "seed_commitment": sworn["seed_commitment"], "started": time.time()})
    with proved.comparer(bench, base) as comparer:
        try:
            pairs = measure_pairs(
                bench.backend, task, bench.kind, *arms, plan,
                comparer if proved.outputs_comparable else None, record, emit,
            )  # fmt: skip
            alone = None
            if pairs.states > 1 and pairs.decision is not None and pairs.decision.state == "improved":
                emit(Event("verify", "running states one at a time", {}))
                runs, preload = pairs.medians(task.primary_metric), proved.forkable if pairs.forked else ()
                alone = measured_alone(
                    bench.backend, task, *arms, runs, _limit_alone(bench, runs), secret, preload,
                    comparer if proved.outputs_comparable else None, record, held,
                )  # fmt: skip
        except CandidateError as error:
            equal = False if isinstance(error, OutputsDifferError) else None
            correctness = correctness.model_copy(update={"outputs_equal": equal, "detail": str(error)})
            cost = Cost(lane_seconds=held.seconds)
            return Verdict(class_="incorrect", reason=str(error), correctness=correctness, cost=cost, **sworn)
        except BaseError as error:
            raise OmniPerfError(str(error), "Run `omniperf tasks validate`.") from error
    outputs_equal = True if proved.outputs_comparable else None
    counted = {"outputs_equal": outputs_equal, "outputs_compared": pairs.compared, "seeds": pairs.seeds}
    correctness = correctness.model_copy(update=counted)
    cost = Cost(lane_seconds=held.seconds + pairs.lane_seconds, samples=pairs.samples)
    if pairs.decision is None:
        reason = f"{pairs.stopped} ({len(pairs.base)} pairs)."
        seen = pairs.last_look.estimate if pairs.last_look else None
        return Verdict(
            class_="inconclusive", reason=reason, speedup=seen, correctness=correctness, noise_floor=floor, cost=cost,
            **sworn,
        )  # fmt: skip
    metrics = _metrics(pairs, bench)
    verdict = Verdict(
        class_="unverified",
        speedup=pairs.decision.estimate,
        metrics=metrics,
        correctness=correctness,
        noise_floor=floor,
        findings=inspect_behaviour(Measured(bench, pairs, alone)),
        printed=pairs.printed(task),
        cost=cost,
        **sworn,
    )
    class_, reason = _judge(bench, pairs, verdict)
    return verdict.model_copy(update={"class_": class_, "reason": reason})


def _limit_alone(bench: Bench, runs: tuple[float, float]) -> float:
    """After how long a step counts as not finishing where states come one at a time."""
    return min(bench.task.limits.command_seconds, 60.0 + 30.0 * max(runs))


def _judge(bench: Bench, pairs: Pairs, verdict: Verdict) -> tuple[str, str]:
    """The class and the sentence that says why."""
    assert pairs.decision is not None
    assert verdict.speedup is not None
    estimate, rule = verdict.speedup, bench.task.measure
    figure = f"{estimate.speedup:.3f}x"
    if rejected := [finding for finding in verdict.findings if finding.severity == "reject"]:
        return "rejected", rejected[0].message
    broken = [metric for metric in verdict.metrics if metric.guard_held is False]
    if broken:
        worse = broken[0]
        assert worse.guard is not None
        more = worse.direction == "higher"
        ratio, allowed = (1 if more else -1), (1 / worse.guard if more else worse.guard)
        said = f"{worse.estimate.speedup**ratio:.3f} times base's; its guard allows {allowed:.3g}"
        return "regressed", f"{worse.name} is {said}."
    match pairs.decision.state:
        case "improved":
            low = estimate.claim.low
            return "improved", f"{figure}; at {estimate.claim.confidence:.2%} confidence at least {low:.3f}x."
        case "regressed":
            high = estimate.claim.high
            return "regressed", f"{figure}; at {estimate.claim.confidence:.2%} confidence at most {high:.3f}x."
        case "no_change":
            said = f"{figure}; the 90 % interval lies within {rule.min_effect:.0%} of no change."
            return "no_change", said + _held_back(verdict, rule)
        case _:
            detectable = f"{estimate.minimum_detectable_effect:.1%}"
            said = f"{figure} after {estimate.pairs} pairs; {detectable} could have been detected."
            said += " More pairs would hardly have decided it." * pairs.decision.futile
            return "inconclusive", said + _held_back(verdict, rule)


def _held_back(verdict: Verdict, rule: Measure) -> str:
    """What to add where the margin was exceeded, and only the noise floor stood against a claim."""
    estimate, floor = verdict.speedup, verdict.noise_floor or 0.0
    assert estimate is not None
    if floor <= rule.margin or (1 / (1 + rule.margin) <= estimate.claim.high and estimate.claim.low <= 1 + rule.margin):
        return ""
    return (
        f" It is beyond the margin of {rule.margin:.1%}, but not surely beyond this host's noise floor of {floor:.1%}."
    )


def _metrics(pairs: Pairs, bench: Bench) -> tuple[MetricResult, ...]:
    """Every metric of the task. Guarded ones are estimated from the pairs that the primary one needed."""
    assert pairs.decision is not None
    results = []
    for metric in bench.task.metrics:
        if not (metric.name in MEASURED or bench.kind == "service"):
            continue  # printed by the tree's own process
        ratios = pairs.log_ratios(metric)
        estimate: Estimate = pairs.decision.estimate
        if not metric.primary:
            estimate = decide(ratios, bench.task.measure, counter=metric.name == "peak_memory").estimate
        medians = pairs.medians(metric)
        results.append(
            MetricResult(
                name=metric.name,
                unit=metric.unit,
                direction=metric.direction,
                primary=metric.primary,
                base_median=medians[0],
                candidate_median=medians[1],
                estimate=estimate,
                guard=metric.guard,
                guard_held=None if metric.guard is None else guard_held(ratios, metric.guard),
            )
        )
    return tuple(results)


def _versus_human(
    bench: Bench,
    proved: Preflight,
    candidate: Arm,
    caches: Path,
    verdict: Verdict,
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
) -> Verdict:
    """Measure the candidate against the human tree, in the same way."""
    reference = bench.human_patch()
    if reference is None:
        return verdict
    emit(Event("verify", "measuring the human patch and the candidate in pairs", {}))
    with bench.tree("human", reference) as human:
        if (failed := bench.build(human)) is not None:
            return _without_human(verdict, f"the human patch does not build: a command {failed.ending}")
        add_bytecode(bench, human, proved.imported, [file.path for file in parse(bench.seal, reference).files])
        arm = _arm(bench, proved, "human", human, caches)
        floor = verdict.noise_floor or 0.0
        plan = Plan(bench.task.measure, secrets.token_bytes(32), "versus-human", preload=proved.forkable, floor=floor)
        with proved.comparer(bench, arm) as comparer:
            try:
                pairs = measure_pairs(
                    bench.backend, bench.task, bench.kind, arm, candidate, plan,
                    comparer if proved.outputs_comparable else None, record, emit,
                )  # fmt: skip
            except (BaseError, CandidateError) as error:
                return _without_human(verdict, str(error))
    if pairs.decision is None:
        return verdict.model_copy(update={"versus_human": "inconclusive"})
    states = {"improved": "beats_human", "regressed": "below_human", "no_change": "matches_human"}
    said = states.get(pairs.decision.state, "inconclusive")
    return verdict.model_copy(update={"versus_human": said, "versus_human_speedup": pairs.decision.estimate})


def _without_human(verdict: Verdict, why: str) -> Verdict:
    """The verdict, earned against base, with a word on why there is none against the human patch."""
    finding = Finding(id="no-human-comparison", severity="warn", message=f"Not compared with the human patch: {why}")
    return verdict.model_copy(update={"findings": (*verdict.findings, finding)})
