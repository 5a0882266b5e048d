"""From a patch to a verdict: clean trees, scope, build, tests, outputs, and paired measurement."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.measure.alone import Alone, measured_alone
from omniperf.measure.arms import make_arm
from omniperf.measure.bytecode import add_bytecode
from omniperf.measure.clock import WorkloadError
from omniperf.measure.pairs import BaseError, CandidateError, OutputsDifferError, Pairs, Plan, measure_pairs
from omniperf.measure.poison import poisoned_difference
from omniperf.measure.statistics import decide, guard_held, hl_interval
from omniperf.results.events import Event
from omniperf.results.schema import Correctness, Cost, Finding, MetricResult, Verdict
from omniperf.verify import scope
from omniperf.verify.task_tests import run_tests
from omniperf.workspace.patch import PatchDoesNotApplyError, parse, without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omniperf.measure.bench import Bench
    from omniperf.measure.clock import Arm
    from omniperf.results.events import Emit
    from omniperf.results.schema import Estimate
    from omniperf.verify.preflight import Preflight
    from omniperf.workspace.patch import Patch
    from omniperf.workspace.worktree import Workspace

_MOVED_SHARE = 0.5  # of the time saved: as much again in preparation says that work was moved, not removed
_SLOWER_IMPORT_SHARE, _SLOWER_IMPORT_SECONDS = 0.25, 0.02  # of base's, and beyond the noise of starting a process

_ASKS_UNWRITTEN = re.compile(rb"^\+.*\b(?:new_)?empty(?:_like|_strided|_permuted)?\(.*", re.M)
# What takes memory that is unwritten even where arrays are poisoned; `torch.Tensor([1, 2])` is written.
ESCAPES_POISON = re.compile(
    rb"^\+.*(?:\b(?:nd|rec|char)array(?:\.__new__)?\("
    rb"|\bma\.empty(?:_like)?\("
    rb"|\b(?:BFloat16|Bool|Byte|Char|Double|Float|Half|Int|Long|Short)?Tensor\((?!\s*[\[(])"
    rb"|\.resize_(?:as_)?\().*",
    re.M,
)


def verify_patch(
    bench: Bench,
    data: bytes,
    proved: Preflight,
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
    *,
    versus_human: bool = False,
) -> Verdict:
    """Measure what a diff against base is worth. Trusts nothing but what it does itself.

    Precedence: no_patch, invalid, rejected, incorrect, then what the measurement says. Raises OmniPerfError only where
    base itself or the host fails; whatever the patch does ends in a verdict.
    """
    started = time.monotonic()
    verdict = _verify(bench, data, proved, record, emit, versus_human=versus_human)
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
    found = scope.findings(scope.mark(patch.files, bench.task), bench.task)
    if found:
        return Verdict(class_="rejected", reason=found[0].message, findings=found)
    with ExitStack() as stack:
        base = stack.enter_context(bench.tree("base"))
        candidate = stack.enter_context(bench.tree("candidate", patch.data))
        if (failed := bench.build(base)) is not None:
            raise OmniPerfError(f"The build {failed.ending} on base.", "Correct the task.", output=failed.output)
        emit(Event("verify", "building and testing the patch in a clean tree", {}))
        if (failed := bench.build(candidate, tuple(file.path for file in patch.files))) is not None:
            return Verdict(class_="invalid", reason=f"The patch does not build: a command {failed.ending}.",
                           correctness=Correctness(detail=failed.output[-2000:]))  # fmt: skip
        tests_passed, detail = _tests(bench, proved, patch)
        if tests_passed is False:
            return Verdict(
                class_="incorrect",
                reason="The task's tests pass on base and fail with the patch.",
                correctness=Correctness(tests_passed=False, detail=detail),
            )
        add_bytecode(bench, base, proved.imported)
        add_bytecode(bench, candidate, proved.imported, [file.path for file in patch.files])
        caches = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omniperf-")))
        arms = (
            _arm(bench, proved, "base", base, caches),
            _arm(bench, proved, "candidate", candidate, caches),
        )
        memory_written, detail = _memory(bench, proved, arms, emit)
        if memory_written is False:
            return Verdict(
                class_="incorrect",
                reason="With the memory of new arrays spoilt, the outputs are not base's: some is read unwritten.",
                correctness=Correctness(tests_passed=tests_passed, memory_written=False, detail=detail),
            )
        verdict = _measured(bench, proved, arms, record, emit, tests_passed=tests_passed)
        unchecked = _unchecked_memory(patch, proved)
        correctness = verdict.correctness.model_copy(update={"memory_written": None if unchecked else memory_written})
        findings = (*verdict.findings, *unchecked)
        verdict = verdict.model_copy(update={"correctness": correctness, "findings": findings})
        if versus_human and verdict.speedup is not None:
            verdict = _versus_human(bench, proved, arms[1], caches, verdict, record, emit)
    return verdict


def _arm(bench: Bench, proved: Preflight, name: str, workspace: Workspace, caches: Path) -> Arm:
    export = proved.exported == "in the worker"
    return make_arm(name, bench.task, bench.environment, bench.backend, workspace, caches, export=export)


def _tests(bench: Bench, proved: Preflight, patch: Patch) -> tuple[bool | None, str]:
    """Run the task's tests on the candidate, its test files being base's. None where the task has no tests.

    Code under test can end its process with status 0, so as many tests must say that they ran as on base.

    Only `allow_protected` lets a patch touch test files at all; it may change them, but not be judged by them.
    """
    if not bench.task.tests:
        return None, ""
    with bench.tree("tests", without(bench.seal, patch, scope.TESTS).data) as tree:
        failed, counted = run_tests(bench, tree)
    if failed is None and (counted or 0) >= (proved.tests_counted or 0):
        return True, ""
    with bench.tree("tests-of-base") as tree:  # what held when the task was proved may not hold now
        base, of_base = run_tests(bench, tree)
    if base is not None:
        raise OmniPerfError(
            f"The task's tests fail on base too (a command {base.ending}).",
            "Correct `tests`, or what they need on this host.",
            output=base.output,
        )
    if failed is not None:
        return False, f"A command {failed.ending}.\n{failed.output[-4000:]}"
    if (counted or 0) < (of_base or 0):
        return False, f"The tests ended early: {counted or 'none'} of base's {of_base} say that they ran."
    return True, ""


def _memory(bench: Bench, proved: Preflight, arms: tuple[Arm, Arm], emit: Emit) -> tuple[bool | None, str]:
    """Whether the candidate's outputs are base's while its memory is poisoned. None where that cannot be asked."""
    if proved.memory != "poisonable":
        return None, ""
    emit(Event("verify", "running the patch with poisoned memory", {}))
    with proved.comparer(bench, arms[0]) as comparer:
        try:
            difference = poisoned_difference(bench.backend, bench.task, bench.kind, *arms, comparer)
        except WorkloadError as error:
            raise OmniPerfError(f"The workload fails on base: {error}.", "Run `omniperf tasks validate`.") from error
    return not difference, difference


def _unchecked_memory(patch: Patch, proved: Preflight) -> tuple[Finding, ...]:
    """A finding where a patch may take unwritten memory and nothing could show that it writes all it reads."""
    found = ESCAPES_POISON.search(patch.data)
    message = "The patch may take memory unwritten, and in a way that poisoning does not reach."
    if proved.memory != "poisonable":
        found = _ASKS_UNWRITTEN.search(patch.data) or found
        message = "The patch may take memory unwritten, and this workload could not be run with poisoned memory."
    if found is None:
        return ()
    return (
        Finding(
            id="memory-not-checked",
            severity="warn",
            message=message,
            evidence=found[0].decode("utf-8", "replace"),
            remedy="Read whether every element is written before it is read.",
        ),
    )


def _measured(
    bench: Bench,
    proved: Preflight,
    arms: tuple[Arm, Arm],
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
    *,
    tests_passed: bool | None,
) -> Verdict:
    """Compare outputs, measure pairs, and say what they say."""
    task, base = bench.task, arms[0]
    secret = secrets.token_bytes(32)
    plan = Plan(task.measure, secret, "verify")
    emit(Event("verify", "measuring base and candidate in pairs", {}))
    sworn = {"seed_commitment": hashlib.sha256(secret).hexdigest(), "seed_secret": secret.hex()}
    record({"phase": "verify", "seed_commitment": sworn["seed_commitment"], "started": time.time()})
    correctness = Correctness(tests_passed=tests_passed)
    with proved.comparer(bench, base) as comparer:
        try:
            pairs = measure_pairs(
                bench.backend, task, bench.kind, *arms, plan,
                comparer if proved.outputs_comparable else None, record, emit,
            )  # fmt: skip
            alone = None
            if pairs.states > 1 and pairs.decision is not None and pairs.decision.state == "improved":
                emit(Event("verify", "running states one at a time", {}))
                alone = measured_alone(
                    bench.backend, task, *arms, pairs.medians("latency"), task.limits.command_seconds, secret,
                    comparer if proved.outputs_comparable else None, record,
                )  # fmt: skip
        except CandidateError as error:
            equal = False if isinstance(error, OutputsDifferError) else None
            correctness = correctness.model_copy(update={"outputs_equal": equal, "detail": str(error)})
            return Verdict(class_="incorrect", reason=str(error), correctness=correctness, **sworn)
        except BaseError as error:
            raise OmniPerfError(str(error), "Run `omniperf tasks validate`.") from error
    correctness = Correctness(
        tests_passed=tests_passed,
        outputs_equal=True if proved.outputs_comparable else None,
        outputs_compared=pairs.compared,
        seeds=pairs.seeds,
    )
    cost = Cost(lane_seconds=pairs.lane_seconds, samples=pairs.samples)
    if pairs.decision is None:
        reason = f"{task.measure.max_minutes:g} minutes were not enough for a decision ({len(pairs.base)} pairs)."
        seen = pairs.last_look.estimate if pairs.last_look else None
        return Verdict(class_="inconclusive", reason=reason, speedup=seen, correctness=correctness, cost=cost, **sworn)
    metrics = _metrics(pairs, bench)
    verdict = Verdict(
        class_="unverified",
        speedup=pairs.decision.estimate,
        metrics=metrics,
        correctness=correctness,
        findings=(*_only_in_batches(pairs, alone), *_before_the_clock(pairs)) if bench.kind == "module" else (),
        printed=pairs.printed(task),
        cost=cost,
        **sworn,
    )
    class_, reason = _judge(bench, pairs, verdict)
    return verdict.model_copy(update={"class_": class_, "reason": reason})


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
        ratio = 1 / worse.estimate.speedup
        return "regressed", f"{worse.name} is {ratio:.3f} times base's; its guard allows {worse.guard:g}."
    match pairs.decision.state:
        case "improved":
            low = estimate.claim.low
            return "improved", f"{figure}; at {rule.confidence:.2%} confidence at least {low:.3f}x."
        case "regressed":
            high = estimate.claim.high
            return "regressed", f"{figure}; at {rule.confidence:.2%} confidence at most {high:.3f}x."
        case "no_change":
            return "no_change", f"{figure}; the 90 % interval lies within {rule.min_effect:.0%} of no change."
        case _:
            detectable = f"{estimate.minimum_detectable_effect:.1%}"
            return "inconclusive", f"{figure} after {estimate.pairs} pairs; {detectable} could have been detected."


def _metrics(pairs: Pairs, bench: Bench) -> tuple[MetricResult, ...]:
    """Every metric of the task. Guarded ones are estimated from the pairs that the primary one needed."""
    assert pairs.decision is not None
    results = []
    for metric in bench.task.metrics:
        ratios = pairs.log_ratios(metric.name)
        estimate: Estimate = pairs.decision.estimate
        if not metric.primary:
            estimate = decide(ratios, bench.task.measure, counter=metric.name == "peak_memory").estimate
        medians = pairs.medians(metric.name)
        results.append(
            MetricResult(
                name=metric.name,
                unit=metric.unit,
                primary=metric.primary,
                base_median=medians[0],
                candidate_median=medians[1],
                estimate=estimate,
                guard=metric.guard,
                guard_held=None if metric.guard is None else guard_held(ratios, metric.guard),
            )
        )
    return tuple(results)


def _only_in_batches(pairs: Pairs, alone: Alone | None) -> tuple[Finding, ...]:
    """A finding where states that come one at a time are certainly not that much faster."""
    if alone is None or not alone.missing:
        return ()
    base, candidate = pairs.medians("latency")
    together, single = f"{base / candidate:.3f}", f"{alone.speedup:.3f}"
    return (
        Finding(
            id="only-in-batches",
            severity="reject",
            message=f"States got {together} times as fast in a batch, {single} times one at a time.",
            evidence=f"{pairs.states} states a batch; {alone.pairs} pairs of processes with one state at a time",
            remedy="Make each run faster: a caller has one state at hand, not the next ones too.",
        ),
    )


def _before_the_clock(pairs: Pairs) -> tuple[Finding, ...]:
    """Findings where a claimed gain left the timed region only to come back before it.

    Making the states is no part of the workload, so time that went there was moved, where it is certain (90 % interval)
    that it did. Importing happens once for many runs: that it certainly takes longer is the reader's to weigh.
    """
    if pairs.decision is None or pairs.decision.state != "improved":
        return ()
    both = list(zip(pairs.base, pairs.candidate, strict=True))
    gain = statistics.median(one.seconds - other.seconds for one, other in both)
    setup, _ = hl_interval([other.setup - one.setup for one, other in both], 0.90)
    later, _ = hl_interval([other.imported - one.imported for one, other in both], 0.90)
    before, after = (statistics.median(one.imported for one in arm) for arm in (pairs.base, pairs.candidate))
    found = []
    if setup >= _MOVED_SHARE * gain > 0:
        found.append(
            Finding(
                id="moved-work",
                severity="reject",
                message=f"The timed region got {gain:.3f} s shorter, set-up at least {setup:.3f} s longer.",
                evidence=f"{len(both)} pairs",
                remedy="Make the work less, not earlier: only `run` is the task.",
            )
        )
    if later >= max(_SLOWER_IMPORT_SECONDS, _SLOWER_IMPORT_SHARE * before):
        runs = math.ceil((after - before) * pairs.states / gain) if gain > 0 else None
        worth = f", which {runs:,} runs win back" if runs else ""
        found.append(
            Finding(
                id="slower-import",
                severity="warn",
                message=f"Start and import take {after:.3f} s instead of {before:.3f} s{worth}.",
                evidence=f"medians of {len(both)} pairs",
                remedy="Weigh it: importing happens once a process.",
            )
        )
    return tuple(found)


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
        plan = Plan(bench.task.measure, secrets.token_bytes(32), "versus-human")
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
