"""A sweep from its plan to its summary, and again from where it was when it was interrupted or killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import omniperf
from omniperf.agents.discover import load_agent
from omniperf.agents.preflight import check_options
from omniperf.errors import InfraError, UsageError
from omniperf.record import now
from omniperf.results.predictions import prediction
from omniperf.results.store import (
    RUN_ID,
    check_folders,
    disk_errors,
    find_sweep,
    new_run_id,
    run_folders,
    write_whole,
)
from omniperf.sweep.local import LocalEngine
from omniperf.sweep.outcome import finished, result_of
from omniperf.sweep.plan import make_plan, read_plan
from omniperf.sweep.run import summary
from omniperf.sweep.scheduler import Scheduler
from omniperf.tasks.load import load_task, task_sha256
from omniperf.workspace.leftovers import clear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from omniperf.results.events import Emit
    from omniperf.settings import Settings
    from omniperf.sweep.plan import Plan, PlannedTask
    from omniperf.sweep.scheduler import Progress
    from omniperf.sweep.spec import Sweep

    View: TypeAlias = Callable[[Path], AbstractContextManager[Emit]]  # of a sweep's folder

_WATCHERS_LOOK = 0.5  # seconds: who looks whether a sweep is running holds its lock for a moment


def new_sweep(sweep: Sweep, jobs: int, settings: Settings, view: View) -> tuple[Path, Progress]:
    """Plan a sweep and run it, `jobs` attempts at once. Returns its folder and where it stands.

    Raises what `Plan` and `Scheduler` raise; nothing is spent by then.
    """
    check_folders(settings)
    plan = make_plan(sweep, new_run_id(), settings)
    return settings.results / plan.run_id, _run(plan, jobs, settings, view)


def dry_run(sweep: Sweep, settings: Settings) -> Plan:
    """Plan a sweep and do no more. Raises UsageError and InfraError where an agent cannot work as asked."""
    plan = make_plan(sweep, "(not started)", settings)
    for one in sweep.agents:
        options = {key: str(value) for key, value in one.options.items()}
        check_options(load_agent(one.agent), one.agent, options)
    return plan


def resume_sweep(
    run: str, jobs: int, settings: Settings, view: View, usd: float | None = None
) -> tuple[Path, Progress]:
    """Go on with a sweep: exactly what has no result; all of it may cost `usd` where that is given.

    Raises UsageError where it cannot be resumed.
    """
    check_folders(settings)
    folder = find_sweep(settings, run)
    plan = read_plan(folder)
    left = {one.task for one in plan.attempts if not finished(result_of(plan, one, folder))}
    for task in plan.tasks:
        if task.id in left and (why := _changed(task, settings)):
            raise UsageError(
                f"Task {task.id} is not as it was when the sweep began: {why}",
                f"Restore {task.file}, or start a new sweep.",
            )
    with _only_one(folder):  # before anything is made ready, or spent, for a sweep that is running
        if usd is not None:
            plan = plan.model_copy(update={"sweep": plan.sweep.model_copy(update={"usd": usd})})
            _write_plan(plan, folder)
    return folder, _run(plan, jobs, settings, view)


def _changed(task: PlannedTask, settings: Settings) -> str:
    """What is wrong with the file of a task, "" where it says what it said."""
    try:
        return "" if task_sha256(load_task(task.file, settings)) == task.sha256 else "it says something else."
    except UsageError as error:
        return error.message


def _run(plan: Plan, jobs: int, settings: Settings, view: View) -> Progress:
    """Run what is unfinished of a plan, and sum up. Ctrl-C: finish what is running; twice: leave it to `resume`.

    Nothing is written where something cannot run, or where Ctrl-C comes before that is known.
    """
    folder, scratch = settings.results / plan.run_id, settings.worktrees / plan.run_id
    at_once = jobs or 8 * len(os.sched_getaffinity(0))  # they wait for models most of the time
    asked: list[int] = []
    own = replace(settings, worktrees=scratch)
    with _holding(scratch), view(folder) as emit, LocalEngine(at_once, own, emit) as engine:
        allow = engine.gateway.shared.allow
        scheduler = Scheduler(plan, folder, engine, settings, emit, lambda: not asked, allow)
        try:
            scheduler.prepare()
        except BaseException:
            engine.close()
            clear(scratch, settings.cache)
            raise
        _begin(plan, folder)
        with _interruptible(asked), _only_one(folder):
            clear(scratch, settings.cache)  # of attempts that were killed
            for torn in folder.rglob(".*.tmp"):  # files that were being written then
                torn.unlink()
            try:
                with disk_errors(folder):
                    return _run_and_sum_up(scheduler, engine, plan, settings)
            except InfraError as error:
                remedy = f"When that is mended, go on with `omniperf resume {plan.run_id}`."
                raise InfraError(error.kind, error.message, remedy) from error


def _run_and_sum_up(scheduler: Scheduler, engine: LocalEngine, plan: Plan, settings: Settings) -> Progress:
    try:
        return scheduler.run()
    except KeyboardInterrupt:
        return replace(scheduler.progress, stopped="interrupted")
    finally:
        engine.close()
        clear(settings.worktrees / plan.run_id, settings.cache)
        sum_up(plan, settings.results / plan.run_id)


def _begin(plan: Plan, folder: Path) -> None:
    """Write what a sweep is, unless it has begun already."""
    if (folder / "plan.json").is_file():
        return
    about = {
        "schema": "omniperf/run/v1", "run_id": plan.run_id, "started": now(), "omniperf": omniperf.__version__,
        "tasks": [task.id for task in plan.tasks], "agents": [one.name for one in plan.sweep.agents],
        "attempts": len(plan.attempts),
    }  # fmt: skip
    write_whole(folder / "run.json", json.dumps(about, indent=1).encode())
    _write_plan(plan, folder)


def _write_plan(plan: Plan, folder: Path) -> None:
    write_whole(folder / "plan.json", plan.model_dump_json(by_alias=True, indent=1).encode())


def sum_up(plan: Plan, folder: Path) -> None:
    """Write what is kept beside the attempts, from their results alone, in the order of the plan."""
    lines, rows = [], []
    for one in plan.attempts:
        if (result := result_of(plan, one, folder)) is None:
            continue
        rows.append(result)
        if (diff := folder / one.id / "model_patch.diff").is_file():
            name = one.label if plan.sweep.attempts == 1 else f"{one.label}.{one.n}"
            line = prediction(one.task, name, diff.read_bytes())
            lines.append(json.dumps(line, separators=(",", ":")))
    write_whole(folder / "predictions.jsonl", "".join(f"{line}\n" for line in lines).encode(), exact=True)
    write_whole(folder / "summary.json", json.dumps(summary(folder.name, rows), indent=1).encode())


def clean(settings: Settings) -> list[Path]:
    """Delete the worktrees of sweeps that no process works on any more. Returns what was deleted.

    Those of a sweep that was killed before it had a plan are known by the lock that was held on them, and so are those
    of a sweep with its results elsewhere.
    """
    gone = []
    planned = {folder.name for folder in run_folders(settings) if (folder / "plan.json").is_file()}
    locks = (lock.name[1:].removesuffix(".lock") for lock in settings.worktrees.glob(".*.lock"))
    begun = {run for run in locks if RUN_ID.fullmatch(run)}
    for run in sorted(planned | begun):
        scratch = settings.worktrees / run
        if not scratch.exists() and run not in begun:
            continue
        try:
            with _holding(scratch), _only_one(settings.results / run) if run in planned else nullcontext():
                if scratch.exists():
                    clear(scratch, settings.cache)
                    gone.append(scratch)
        except UsageError:  # it is running
            continue
    return gone


@contextmanager
def _holding(scratch: Path) -> Iterator[None]:
    """Hold the lock of a sweep's worktrees, from before there are any. Raises UsageError where another process does."""
    lock = scratch.with_name(f".{scratch.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with _locked(lock, scratch.name) as descriptor:
            if not lock.exists() or lock.stat().st_ino != os.fstat(descriptor).st_ino:
                continue  # who had it has just deleted it
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep. Raises UsageError where another process does."""
    with _locked(folder / ".lock", folder.name):
        yield


@contextmanager
def _locked(lock: Path, run: str) -> Iterator[int]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + _WATCHERS_LOOK
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    remedy = "Wait for it, or interrupt it."
                    raise UsageError(f"Sweep {run} is still running.", remedy) from None
                time.sleep(0.02)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _interruptible(asked: list[int]) -> Iterator[None]:
    """Note in that list that somebody has pressed Ctrl-C; the second time it is a KeyboardInterrupt."""

    def note(number: int, frame: object) -> None:
        del frame
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
