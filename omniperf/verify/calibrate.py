"""Pairs of a number set beforehand: base against itself, which is the noise, or against a patch."""

from __future__ import annotations

import secrets
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.measure.arms import make_arm
from omniperf.measure.bench import open_bench
from omniperf.measure.bytecode import add_bytecode
from omniperf.measure.calibration import PAIRS, keep
from omniperf.measure.pairs import BaseError, CandidateError, Plan, measure_pairs
from omniperf.results.events import Event
from omniperf.tasks.load import list_tasks
from omniperf.verify.preflight import preflight
from omniperf.workspace.patch import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omniperf.measure.bench import Bench
    from omniperf.measure.pairs import Pairs
    from omniperf.results.certificate import Calibration
    from omniperf.results.events import Emit
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from omniperf.verify.preflight import Preflight


def calibrate(
    bench: Bench, proved: Preflight, record: Callable[[Mapping[str, object]], None], emit: Emit
) -> Calibration:
    """Measure base against a second tree of base, made and built by itself, and keep what that says of the noise.

    `record` is given every line that the measurement leaves.
    Raises OmniPerfError where base fails, or its outputs are not its own.
    """
    started = time.monotonic()
    emit(Event("verify", f"{bench.task.id}: measuring base against a second tree of base", {}))
    pairs, orders = measure_fixed(bench, proved, ("base", "again"), b"", PAIRS, record, emit)
    return keep(bench, pairs, orders, time.monotonic() - started)


def calibrate_task(task: Task, settings: Settings, emit: Emit) -> Calibration:
    """`calibrate`, from the task on. Raises OmniPerfError where it cannot run here."""
    bench = open_bench(task, settings, emit)
    return calibrate(bench, preflight(bench, emit), lambda _: None, emit)


def calibrate_all(settings: Settings, emit: Emit) -> tuple[list[Calibration], dict[str, str]]:
    """Calibrate every listed task that can run here; of each other one, say why it cannot."""
    done, skipped = [], {}
    for entry in list_tasks(settings):
        try:
            if entry.task is None:
                raise OmniPerfError(entry.error)
            done.append(calibrate_task(entry.task, settings, emit))
        except OmniPerfError as error:
            skipped[entry.name] = error.message
    return done, skipped


def measure_fixed(
    bench: Bench,
    proved: Preflight,
    names: tuple[str, str],
    patch: bytes,
    count: int,
    record: Callable[[Mapping[str, object]], None],
    emit: Emit,
) -> tuple[Pairs, list[str]]:
    """Measure exactly `count` pairs of base and of base with a patch, and tell in which order each pair ran.

    `names` are those of the two arms; `record` is given every line. Raises OmniPerfError where either fails, or their
    outputs differ.
    """
    orders: list[str] = []

    def note(line: Mapping[str, object]) -> None:
        record(line)
        if "order" in line:
            orders.append(str(line["order"]))

    with ExitStack() as stack:
        caches, arms = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omniperf-"))), []
        for name, data in zip(names, (b"", patch), strict=True):
            tree = stack.enter_context(bench.tree(name, data))
            changed = tuple(file.path for file in parse(bench.seal, data).files)
            if (failed := bench.build(tree, changed)) is not None:
                raise OmniPerfError(f"The build {failed.ending} on {name}.", "Correct the task.", output=failed.output)
            add_bytecode(bench, tree, proved.imported, changed)
            export = proved.exported == "in the worker"
            arms.append(make_arm(name, bench.task, bench.environment, bench.backend, tree, caches, export=export))
        plan = Plan(bench.task.measure, secrets.token_bytes(32), names[1], fixed=count, preload=proved.forkable)
        with proved.comparer(bench, arms[0]) as comparer:
            try:
                pairs = measure_pairs(
                    bench.backend, bench.task, bench.kind, arms[0], arms[1], plan,
                    comparer if proved.outputs_comparable else None, note, emit,
                )  # fmt: skip
            except (BaseError, CandidateError) as error:
                raise OmniPerfError(str(error), "Run `omniperf tasks validate`.") from error
    if len(pairs.base) != count:
        raise OmniPerfError(f"{pairs.stopped}: {len(pairs.base)} of {count} pairs are no measure.", "Quiet the host.")
    return pairs, orders
