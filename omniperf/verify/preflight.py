"""Preflight: what must hold on base before anything is spent, and before any verdict means something."""

from __future__ import annotations

import ast
import hashlib
import json
import marshal
import secrets
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omniperf.errors import UsageError
from omniperf.measure.arms import make_arm, on_lane, poisoned
from omniperf.measure.bench import in_tree
from omniperf.measure.clock import Timing, Worker, WorkloadError, sample
from omniperf.measure.compare import Comparer
from omniperf.measure.lanes import claimed, find_lanes
from omniperf.measure.process import observe_process
from omniperf.measure.untimed import fresh_groups, run_reference, run_untimed
from omniperf.results.events import Event
from omniperf.results.store import write_whole
from omniperf.tasks.globs import matches
from omniperf.tasks.load import task_sha256
from omniperf.tasks.schema import Model
from omniperf.verify.pass_to_pass import PassToPass, prove_tests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.measure.bench import Bench
    from omniperf.measure.clock import Arm, Sample
    from omniperf.results.events import Emit
    from omniperf.tasks.schema import Task
    from omniperf.workspace.worktree import Workspace

_SLOW_IMPORT_SECONDS = 1.0
_SECONDS = 120.0  # a workload should take a fraction of a second on base; a task may allow it less


class Preflight(Model):
    """What was proved on base. Times in seconds.

    A workload's `export` runs in the checker, far from the clock, unless what `run` returns is no plain data: then only
    the worker can make it so, and the clock must wait for that.

    Memory is poisonable where base's outputs stay the same when all that was never written starts out spoilt.

    `imported` are the tree's own files that a run loads, `preload` the modules that it takes from the host in the order
    of their imports, `import_seconds` what starting and importing take; `tests` is None where the task has none.
    """

    reached: tuple[str, ...]
    imported: tuple[str, ...]
    preload: tuple[str, ...]
    import_seconds: float
    base_seconds: float
    tests: PassToPass | None
    outputs_comparable: bool
    own_check: bool
    exported: Literal["nowhere", "in the worker", "in the checker"]
    own_reference: bool
    poisonable: bool

    @property
    def forkable(self) -> tuple[str, ...]:
        """The modules to import once for many samples, where that is worth a process of its own; else nothing."""
        return self.preload if self.import_seconds > _SLOW_IMPORT_SECONDS else ()

    def comparer(self, bench: Bench, base: Arm) -> Comparer:
        """What compares outputs with that arm's, in the way that holds on base."""
        own_export = self.exported == "in the checker"
        return Comparer(bench.backend, base, bench.task, bench.kind, own_check=self.own_check, own_export=own_export)


def preflight(bench: Bench, emit: Emit) -> Preflight:
    """Prove that the workload runs on base and reaches a target, and that base passes its tests.

    The proof is kept with the cache, keyed by everything it depends on. Raises UsageError with the remedy.
    """
    content = [
        sorted(Preflight.model_fields),
        bench.seal.tree,
        bench.environment.key,
        task_sha256(bench.task),
        bench.backend.name,
    ]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    kept = bench.settings.cache / "preflight" / f"{key}.json"
    with suppress(OSError, ValueError):  # absent or damaged: prove it again
        return Preflight.model_validate_json(kept.read_bytes())
    emit(Event("preflight", f"{bench.task.id}: proving base: targets match, the workload reaches them, tests pass", {}))
    with bench.tree("preflight") as base, tempfile.TemporaryDirectory(prefix="omniperf-") as caches:
        check_targets(bench, base)
        found = _prove(bench, base, Path(caches))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, found.model_dump_json(indent=1).encode())
    return found


def check_targets(bench: Bench, base: Workspace) -> None:
    """At least one file of base must match the targets (others may name files that do not exist yet)."""
    names = [
        str(path.relative_to(base.tree)) for path in base.tree.rglob("*") if path.is_file() and path.name != ".git"
    ]
    if not any(matches(name, bench.task.targets) for name in names):
        raise UsageError(
            f"Task {bench.task.id}: no file of base matches its targets {', '.join(bench.task.targets)}.",
            "Correct `targets`; they are relative to the repository's top.",
        )


def _prove(bench: Bench, base: Workspace, caches: Path) -> Preflight:
    task = bench.task
    _check_shapes(task, bench.kind)
    failed = bench.build(base)
    if failed is not None:
        said = f"Task {task.id}: its build {failed.ending} on base."
        raise UsageError(said, "Correct `environment.build`.", output=failed.output)
    assert task.workload is not None
    reached = reached_targets(bench, base, caches)
    file = task.workload.file
    defined = _functions(task.folder / file) if file is not None and bench.kind == "module" else set()
    arm = make_arm("base", task, bench.environment, bench.backend, base, caches)
    drawn = [secrets.randbits(63) for _ in range(2)]

    def taken(seeds: list[int]) -> Sample:
        return sample(bench.backend, on_lane(arm, lane), task, bench.kind, seeds, Timing(1, _allowed(task)))

    with _said_of_base(task), claimed(find_lanes(task.resources)) as lane:
        try:
            first = taken(drawn)
        except WorkloadError as error:
            if "export" not in defined or "NotPlainError" not in str(error):
                raise
            arm = replace(arm, export=True)
            first = taken(drawn)
        second = taken(drawn)
        if first.output == marshal.dumps([None], 2) and bench.kind == "module":
            raise UsageError(f"Task {task.id}: its workload's run returns None.", "Return what the work comes to.")
        if first.completed != second.completed:
            raise UsageError(
                f"Task {task.id}: with one seed {first.completed:,} requests completed, then {second.completed:,}.",
                "Let the load generator send a fixed number of requests and wait for every answer.",
            )
        silent = bench.kind != "module" and not first.output.strip()
        # A few others: where outputs are small, two may agree by chance. Tests may make up for what a script prints.
        judged = bench.kind != "module" and task.tests
        if not judged and all(taken([drawn[0], secrets.randbits(63)]).output == first.output for _ in range(4)):
            raise UsageError(*_remembered(task, bench.kind))
    exported: Literal["nowhere", "in the worker", "in the checker"] = "nowhere"
    if "export" in defined:
        exported = "in the worker" if arm.export else "in the checker"
    own_check, own_reference = "check" in defined, "reference" in defined
    own_export = exported == "in the checker"
    with Comparer(bench.backend, arm, task, bench.kind, own_check=own_check, own_export=own_export) as comparer:
        comparable = not silent and not comparer.difference(second.output, first.output, 1)
        poisonable = comparable and bench.kind == "module" and _prove_behaviour(bench, arm, comparer, own_reference)
    if not comparable and not silent:
        _refuse_unsteady(bench)
    return Preflight(
        reached=reached.functions,
        imported=reached.files,
        preload=reached.modules,
        import_seconds=second.imported,
        base_seconds=first.seconds,
        tests=prove_tests(bench) if task.tests else None,
        outputs_comparable=comparable,
        own_check=own_check,
        exported=exported,
        own_reference=own_reference,
        poisonable=poisonable,
    )


def _check_shapes(task: Task, kind: str) -> None:
    """Raise UsageError where `setup` does not take what the task's shapes give it."""
    if not task.shapes:
        return
    assert task.workload is not None
    if kind != "module" or task.workload.file is None:
        raise UsageError(f"Task {task.id}: `shapes` are arguments of setup, and a {kind} has none.", "Write a module.")
    tree = ast.parse((task.folder / task.workload.file).read_bytes())
    setup = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "setup")
    taken = {argument.arg for argument in (*setup.args.args[1:], *setup.args.kwonlyargs)}
    unknown = {name for shape in task.shapes for name in shape} - taken
    if unknown and setup.args.kwarg is None:
        raise UsageError(
            f"Task {task.id}: setup of its workload does not take {', '.join(sorted(unknown))}, which `shapes` gives.",
            "Define it as `setup(seed, NAME=DEFAULT)`: the defaults are what is timed.",
        )


def _prove_behaviour(bench: Bench, arm: Arm, comparer: Comparer, own_reference: bool) -> bool:
    """Whether base stands poisoned memory. Raises UsageError where it does not stand its task's shapes or reference."""
    task, groups = bench.task, fresh_groups(bench.task)
    with _said_of_base(task), claimed(find_lanes(task.resources)) as lane:
        arm = on_lane(arm, lane)
        plain = run_untimed(bench.backend, arm, task, groups, _allowed(task))
        exact = run_reference(bench.backend, arm, task, groups, _allowed(task)) if own_reference else []
        again = run_untimed(bench.backend, arm, task, groups[1:], _allowed(task)) if task.shapes else []
        try:
            spoilt = run_untimed(bench.backend, poisoned(arm), task, groups, _allowed(task))
        except WorkloadError:
            spoilt = []
    for group, one, other in zip(groups[1:], plain[1:], again, strict=bool(again)):
        if said := comparer.difference(other.output, one.output, len(group.seeds)):
            raise UsageError(
                f"Task {task.id}: with {dict(group.shape)} its workload gives two outputs for one seed ({said}).",
                "Make `run` deterministic there too, or leave that shape out.",
            )
    for group, one, true in zip(groups, plain, exact, strict=bool(exact)):
        if said := comparer.precision_loss(one.output, one.output, true, len(group.seeds)):
            raise UsageError(
                f"Task {task.id}: its workload's reference cannot be compared with: {said}.",
                "Have `reference(state)` return what `run` returns, in the same order and of the same sizes.",
            )
    return bool(spoilt) and not any(
        comparer.difference(other.output, one.output, len(group.seeds))
        for group, one, other in zip(groups, plain, spoilt, strict=True)
    )


def _remembered(task: Task, kind: str) -> tuple[str, str]:
    """What is wrong, and the remedy, where no output depends on the seed."""
    if kind == "module":
        return (
            f"Task {task.id}: its workload gives one output for every seed, so it could just be remembered.",
            "Make `setup` draw its inputs from the seed, and return something that depends on them.",
        )
    told = "the load generator's outputs are" if kind == "service" else f"what the {kind} prints is"
    return (
        f"Task {task.id}: {told} the same for every seed, so it could just be remembered.",
        "Draw inputs from OMNIPERF_SEED (in a command also {seed}) and print what they come to, or add tests.",
    )


def _refuse_unsteady(bench: Bench) -> None:
    """Raise UsageError where outputs that differ from run to run leave nothing to judge a patch by."""
    task = bench.task
    if bench.kind == "module":
        raise UsageError(
            f"Task {task.id}: its workload gives two outputs for one seed, so no patch could be called correct.",
            "Make `run` deterministic under its seed, or give the workload a `check(output, reference)`.",
        )
    if bench.kind == "service":
        raise UsageError(
            f"Task {task.id}: the load generator reports two `outputs` for one seed.",
            "Report what depends on the seed alone, in the order of requests; or say `outputs: none` and add tests.",
        )
    if not task.tests:
        remedy = "Give `workload.printed`" if bench.kind == "script" else "Name a metric with `from`"
        raise UsageError(
            f"Task {task.id}: the {bench.kind}'s output differs from run to run and there are no tests.",
            f"{remedy} for the figure it prints, or add tests.",
        )


@dataclass(frozen=True)
class Reached:
    """What a workload uses.

    `functions` are those of targets (`file:function`) that it executes during `run`, `files` the tree's that it loads,
    `modules` those that it loads from the host's packages, in the order of their imports.
    """

    functions: tuple[str, ...]
    files: tuple[str, ...]
    modules: tuple[str, ...]


def reached_targets(bench: Bench, base: Workspace, caches: Path) -> Reached:
    """Run the workload once and see what it reaches.

    Importing a target's file is not enough: a function of it must start while `run` runs. Raises UsageError for none.
    """
    task = bench.task
    arm = make_arm("base", task, bench.environment, bench.backend, base, caches)
    assert task.workload is not None
    with _said_of_base(task), claimed(find_lanes(task.resources)) as lane:
        rows, modules = _ran(bench, on_lane(arm, lane))
    reached = []
    for file, function in rows:
        path = in_tree(bench, file)
        if path is not None and matches(path, task.targets):
            reached.append(f"{path}:{function}")
    if not reached and task.workload.reach is None:
        native = "" if task.workload.stated_kind == "file" else ", or say `reach: none` where it is not Python"
        raise UsageError(
            f"Task {task.id}: its workload executes no function of its targets {', '.join(task.targets)} during run.",
            f"Time code that the targets take part in, or correct `targets`{native}.",
        )
    loaded = {path for _, file in modules if (path := in_tree(bench, file)) is not None and path.endswith(".py")}
    folders = bench.environment.host_packages
    of_host = (name for name, file in modules if name and any(Path(file).is_relative_to(top) for top in folders))
    return Reached(tuple(reached), tuple(sorted(loaded)), tuple(of_host))


def _ran(bench: Bench, arm: Arm) -> tuple[list[list[Any]], list[list[str]]]:
    """(file, function) of every function that ran, and (name, file) of the modules that were loaded."""
    seed, seconds = secrets.randbits(63), _allowed(bench.task)
    if bench.kind != "module":
        timing = Timing(seconds=seconds)
        seen = observe_process(bench.backend, arm, bench.task, bench.kind, timing, "reach", seed)
        return seen["functions"], [["", file] for file, _ in seen["modules"]]
    with Worker(bench.backend, arm, bench.task, bench.kind) as worker:
        return worker.reached(seed, seconds)


def _allowed(task: Task) -> float:
    """Seconds that one step of the workload may take."""
    return min(_SECONDS, task.limits.command_seconds)


@contextmanager
def _said_of_base(task: Task) -> Iterator[None]:
    """Say what is wrong with a workload that fails on base, and what to do about it."""
    try:
        yield
    except WorkloadError as error:
        assert task.workload is not None
        said = str(error).replace("/omniperf/workload.py", task.workload.file or "")
        remedy = "Correct the workload or the environment."
        if "NotPlainError: " in said:
            kind = said.partition("NotPlainError: ")[2].partition(" (File")[0]
            said = f"run returns {kind}, which is not plain data"
            remedy = "Return numbers, strings, bytes, lists, dicts, numpy or torch arrays, or add `export(output)`."
        elif "did not finish in time" in said:
            said += f" ({_allowed(task):g} s)"
        raise UsageError(f"Task {task.id}: its workload fails on base: {said}.", remedy) from None


def _functions(workload: Path) -> set[str]:
    """The functions that a workload defines at its top level."""
    return {node.name for node in ast.parse(workload.read_bytes()).body if isinstance(node, ast.FunctionDef)}
