"""A task's self-test on this host, and the certificate that it passed.

In order, each step needing those before it: the workload is deterministic under its seed; the tests pass on base; the
noise floor is at most the smallest effect that the task asks about; a comment is `no_change`; the human patch gets a
verdict. A step that fails refuses the certificate, and says what to do.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import omniperf
from omniperf.errors import UsageError
from omniperf.measure.bench import open_bench
from omniperf.measure.host import host_id
from omniperf.measure.statistics import hl_interval, hodges_lehmann
from omniperf.results.certificate import Certificate, FixedPairs, Step, certificate_path
from omniperf.results.events import Event
from omniperf.results.schema import Interval
from omniperf.results.store import can_hold, write_whole
from omniperf.tasks.load import task_sha256
from omniperf.verify.calibrate import calibrate, measure_fixed
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from omniperf.workspace.comment import comment_style, existing, with_comment
from omniperf.workspace.patch import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import TypeAlias

    from omniperf.measure.bench import Bench
    from omniperf.results.certificate import Calibration
    from omniperf.results.events import Emit
    from omniperf.results.schema import Verdict
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from omniperf.verify.preflight import Preflight

    Record: TypeAlias = Callable[[Mapping[str, object]], None]

_QUIETER = "Make the workload longer, the host quieter, or `measure.min_effect` larger."
_KINDS: dict[str, Literal["optimization", "control"]] = {
    "improved": "optimization", "no_change": "control", "regressed": "control",
}  # fmt: skip


class _RefusedError(Exception):
    """A step failed, and those after it would mean nothing."""


@dataclass(frozen=True)
class SelfTest:
    """The steps that were taken. A certificate and its file, unless the last of them failed."""

    steps: tuple[Step, ...]
    certificate: Certificate | None = None
    file: Path | None = None


def certify(
    task: Task,
    settings: Settings,
    emit: Emit,
    *,
    out: Path | None = None,
    fixed_pairs: int | None = None,
    record: Record = lambda _: None,
) -> SelfTest:
    """Test a task on this host, and store the certificate beside it, or under `out/ID` as beside it.

    `fixed_pairs` measures the human patch once more, with exactly so many pairs. `record` is given every line that a
    measurement leaves, with the `step` it belongs to. Raises UsageError where no certificate could be written or there
    is no human patch for `fixed_pairs`, OmniPerfError where base or the host fails.
    """
    file = certificate_path(out / task.id if out else task.folder, host_id())
    _check_writable(file.parent, task)
    bench = open_bench(task, settings, emit)
    if fixed_pairs is not None and bench.human_patch() is None:
        raise UsageError(f"Task {task.id} has no human patch to measure.", "Leave --fixed-pairs out.")
    steps: list[Step] = []

    def take(step: Step) -> None:
        steps.append(step)
        if not step.ok:
            raise _RefusedError

    try:
        certificate = _tested(bench, fixed_pairs, take, record, emit)
    except _RefusedError:
        return SelfTest(tuple(steps))
    certificate = certificate.model_copy(update={"steps": tuple(steps)})
    write_whole(file, certificate.model_dump_json(by_alias=True, indent=1).encode())
    return SelfTest(tuple(steps), certificate, file)


def _tested(
    bench: Bench, fixed_pairs: int | None, take: Callable[[Step], None], record: Record, emit: Emit
) -> Certificate:
    """Take the steps; `take` keeps each, and raises where one has failed."""
    task = bench.task
    proved = _proved(bench, take, emit)
    calibration = calibrate(bench, proved, _of("noise floor", record), emit)
    take(_noise(task, calibration))
    emit(Event("verify", "the null patch", {}))
    null = verify_patch(bench, _comment(bench), proved, _of("null patch", record), emit)
    take(_verdict_step("null patch", null, null.class_ == "no_change", _null_remedy(null)))
    human, fixed, reference = None, None, bench.human_patch()
    if reference is None:
        take(Step(name="human patch", ok=True, detail="none: whether anything can be won is not known"))
    else:
        emit(Event("verify", "the human patch", {}))
        human = verify_patch(bench, reference, proved, _of("human patch", record), emit)
        take(_verdict_step("human patch", human, human.class_ in _KINDS, _human_remedy(human)))
        if fixed_pairs is not None:
            fixed = _fixed(bench, proved, reference, fixed_pairs, take, record, emit)
    return Certificate(
        task_id=task.id,
        task_sha256=task_sha256(task),
        kind=_KINDS[human.class_] if human else "open",
        host=host_id(),
        issued=datetime.now(UTC).isoformat(timespec="seconds"),
        omniperf_version=omniperf.__version__,
        steps=(),
        calibration=calibration,
        null=null,
        human=human,
        fixed_pairs=fixed,
        environment=bench.environment_facts(),
        sandbox=bench.backend.name,
    )


def _of(step: str, record: Record) -> Record:
    """`record`, with the step's name in every line."""
    return lambda line: record({"step": step, **line})


def _check_writable(folder: Path, task: Task) -> None:
    """Raise UsageError, before anything is measured, where the certificate could not be written at the end."""
    if not can_hold(folder):
        raise UsageError(
            f"The certificate of task {task.id} cannot be written to {folder}.", "Name a folder with --out."
        )


def _proved(bench: Bench, take: Callable[[Step], None], emit: Emit) -> Preflight:
    """What preflight proves, which may be kept from before. It does not count the seconds of its lane."""
    task, started = bench.task, time.monotonic()

    def step(name: str, detail: str, remedy: str = "", **more: Any) -> None:
        take(Step(name=name, ok=not remedy, detail=detail, remedy=remedy, **more))

    try:
        proved = preflight(bench, emit)
    except UsageError as error:
        step("workload and tests", f"{error.output}\n{error.message}".strip(), error.remedy)
        raise
    seconds = time.monotonic() - started
    if not proved.outputs_comparable:
        said = "the outputs differ from run to run, so that only the tests could judge a patch"
        step("deterministic", said, "Print nothing that changes, or name the figure with `workload.printed`.")
    another = ", another seed another"
    if bench.kind != "module" and task.tests:
        another = " (whether another seed gives another is not checked: the tests judge)"
    said = f"one run takes {1000 * proved.base_seconds:.3g} ms; one seed gives one output{another}"
    step("deterministic", said, wall_seconds=seconds)
    if proved.tests is None:
        step("tests on base", "the task has none")
    else:
        counted = len(proved.tests.listed) or sum(proved.tests.counted.values())
        aside = f", {len(proved.tests.aside)} set aside" if proved.tests.aside else ""
        step("tests on base", f"{f'{counted:,}' if counted else 'they'} pass in {proved.tests.seconds:.1f} s{aside}")
    return proved


def _noise(task: Task, calibration: Calibration) -> Step:
    noise, wanted = calibration.noise, task.measure.min_effect
    return Step(
        name="noise floor",
        ok=noise.floor <= wanted,
        detail=f"{noise.floor:.2%} after {noise.pairs} pairs of base and base, SD of a pair {noise.sigma:.2%}; "
        f"the task asks for {wanted:.0%}",
        remedy=_QUIETER,
        wall_seconds=calibration.wall_seconds,
        lane_seconds=calibration.lane_seconds,
    )


def _verdict_step(name: str, verdict: Verdict, ok: bool, remedy: str) -> Step:
    tests = " Its tests pass." if verdict.correctness.tests_passed else ""
    cost = verdict.cost
    return Step(
        name=name,
        ok=ok,
        detail=f"{verdict.class_}: {verdict.reason}{tests}",
        remedy=remedy,
        wall_seconds=cost.wall_seconds,
        lane_seconds=cost.lane_seconds,
    )


def _null_remedy(verdict: Verdict) -> str:
    if verdict.class_ == "inconclusive":
        return _QUIETER
    return "A comment changes nothing: look for what else differs between two trees of base (times, paths, sizes)."


def _human_remedy(verdict: Verdict) -> str:
    if verdict.class_ == "inconclusive":
        return "Make the workload longer, the host quieter, or `measure.max_minutes` larger."
    return "Correct the task, until its own human patch passes what an agent's must pass."


def _comment(bench: Bench) -> bytes:
    """The patch of the control arm `null`."""
    with bench.tree("null") as workspace:
        for path in existing(workspace.tree, bench.task.targets):
            if style := comment_style(path):
                file = workspace.tree / path
                text = file.read_bytes().decode("utf-8", "surrogateescape")
                file.write_bytes(with_comment(text, style).encode("utf-8", "surrogateescape"))
                return collect(workspace).data
    raise UsageError(
        f"Task {bench.task.id} has no target in which a comment can be written.", "Name a source file in `targets`."
    )


def _fixed(
    bench: Bench,
    proved: Preflight,
    reference: bytes,
    count: int,
    take: Callable[[Step], None],
    record: Record,
    emit: Emit,
) -> FixedPairs:
    started = time.monotonic()
    emit(Event("verify", f"the human patch with {count} pairs", {}))
    name = f"{count} pairs"
    pairs, _ = measure_fixed(bench, proved, ("base", "human"), reference, count, _of(name, record), emit)
    d = pairs.log_ratios(bench.task.primary_metric)
    low, high = (math.exp(bound) for bound in hl_interval(d, 0.95))
    found = FixedPairs(
        pairs=count,
        speedup=math.exp(hodges_lehmann(d)),
        interval=Interval(low=low, high=high, confidence=0.95),
        samples=pairs.samples,
        lane_seconds=pairs.lane_seconds,
        wall_seconds=time.monotonic() - started,
    )
    said = f"{found.speedup:.3f}x (95 %: {low:.3f} to {high:.3f}); it decides nothing"
    cost = {"wall_seconds": found.wall_seconds, "lane_seconds": found.lane_seconds}
    take(Step(name=name, ok=True, detail=said, **cost))
    return found
