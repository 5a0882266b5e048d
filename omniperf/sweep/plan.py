"""The plan of a sweep: every attempt, in the order in which they start, and the most it can cost. Plain data."""

from __future__ import annotations

import random
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from omniperf.errors import OmniPerfError, UsageError
from omniperf.record import PATHS
from omniperf.results.store import read_plain
from omniperf.sweep.spec import Contender, Sweep
from omniperf.tasks.load import list_tasks, load_task, task_file, task_sha256
from omniperf.tasks.schema import Model

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

SCHEMA: Literal["omniperf/plan/v1"] = "omniperf/plan/v1"


class Planned(Model):
    """One attempt. `usd` is the most that it may cost: 0 for an agent without a model."""

    task: str
    label: str
    n: int
    usd: float

    @property
    def id(self) -> str:
        """What it is called, which is also its folder in the run's."""
        return f"{self.task}/{self.label}.{self.n}"


class PlannedTask(Model):
    """A task as it was when the sweep was planned: an attempt of a resumed sweep must be on the same."""

    id: str
    file: str
    sha256: str


class Plan(Model):
    """`plan.json`: what a sweep does. `attempts` are in the order in which they start."""

    schema_: Literal["omniperf/plan/v1"] = Field(SCHEMA, alias="schema")
    run_id: str
    sweep: Sweep
    tasks: tuple[PlannedTask, ...]
    attempts: tuple[Planned, ...]

    @property
    def most_usd(self) -> float:
        """The most that it may cost: what the sweep allows, else all its attempts' limits together."""
        total = sum(one.usd for one in self.attempts)
        return total if self.sweep.usd is None or not total else self.sweep.usd


def read_plan(run: Path) -> Plan:
    """The plan in a run's folder. Raises UsageError where the run is no sweep, OmniPerfError where it is damaged."""
    file = run / "plan.json"
    try:
        return Plan.model_validate_json(read_plain(file))
    except FileNotFoundError:
        raise UsageError(f"Run {run.name} is no sweep: it has no plan.", "See `omniperf show`.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise OmniPerfError(
            f"{file} is not a valid {SCHEMA}: {where}: {first['msg']}.",
            "It was changed, or written by another version of OmniPerf; use that version, or start a new sweep.",
        ) from None


def make_plan(sweep: Sweep, run_id: str, settings: Settings) -> Plan:
    """Find the tasks and put the attempts in order. Raises UsageError for one that cannot be run.

    First attempts of everything come before second ones, and within each round the order is drawn from the seed: a
    sweep that is cut short has seen a little of everything.
    """
    if sweep.strategy == "refine" and not sweep.verify:
        raise UsageError(
            "Nothing can be refined that is not measured.", "Let `verify` be true, or the strategy independent."
        )
    tasks = _chosen(sweep.tasks, settings)
    sweep = sweep.model_copy(update={"agents": tuple(map(_found_from_anywhere, sweep.agents))})
    draw, attempts = random.Random(sweep.seed), []  # noqa: S311 - an order, no secret
    for n in range(1, sweep.attempts + 1):
        each = [
            Planned(task=task.id, label=one.name, n=n, usd=_most(sweep, task) if "model" in one.options else 0.0)
            for task, _ in tasks
            for one in sweep.agents
        ]
        draw.shuffle(each)
        attempts += each
    planned = [PlannedTask(id=task.id, file=str(file), sha256=task_sha256(task)) for task, file in tasks]
    return Plan(run_id=run_id, sweep=sweep, tasks=tuple(planned), attempts=tuple(attempts))


def _found_from_anywhere(one: Contender) -> Contender:
    """A contender whose files are named by whole paths: who resumes a sweep may be in another folder."""
    whole = {name: str(Path(str(value)).absolute()) for name, value in one.options.items() if name in PATHS}
    return one.model_copy(update={"options": {**one.options, **whole}})


def _most(sweep: Sweep, task: Task) -> float:
    return task.limits.usd if sweep.limits.usd is None else min(task.limits.usd, sweep.limits.usd)


def _chosen(wanted: tuple[str, ...], settings: Settings) -> list[tuple[Task, Path]]:
    """The tasks that names, paths, globs and tags mean, each once, by id, and their files.

    Raises UsageError for what means none.
    """
    found: dict[str, tuple[Task, Path]] = {}
    for what in wanted:
        if what.startswith("tag:") or any(sign in what for sign in "*?["):
            tag = what.removeprefix("tag:") if what.startswith("tag:") else None
            entries = list_tasks(settings)
            if damaged := next((one for one in entries if one.task is None and fnmatchcase(one.name, what)), None):
                raise UsageError(f"{what!r} means the task {damaged.name} too, which has errors. {damaged.error}")
            some = [
                (entry.task, entry.path)
                for entry in entries
                if entry.task is not None
                and not entry.task.prompt_only
                and (tag in entry.task.tags if tag is not None else fnmatchcase(entry.name, what))
            ]
            if not some:
                raise UsageError(f"No task that can run is meant by {what!r}.", "See `omniperf tasks list`.")
        else:
            some = [(load_task(what, settings), task_file(what, settings))]
        for task, path in some:
            file = path.parent.resolve() / path.name  # it may be a link, whose files are beside it
            if found.setdefault(task.id, (task, file))[1] != file:
                raise UsageError(f"Two tasks are called {task.id!r}.", "Name one of them, or give one another id.")
    return [found[name] for name in sorted(found)]
