"""A run of one task: preflight once, then every attempt from a fresh workspace."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import omniperf
from omniperf.attempt import run_attempt
from omniperf.gateway.process import Gateway
from omniperf.record import AttemptSpec, now
from omniperf.results.best_of import best_of
from omniperf.results.events import Event
from omniperf.results.predictions import prediction
from omniperf.results.store import append_line, check_folders, load_result, new_run_id, write_whole
from omniperf.sweep.failures import Failures
from omniperf.sweep.ready import check_agent, check_agent_on, make_ready

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.events import Emit
    from omniperf.results.schema import Result
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task


def run_task(task: Task, spec: AttemptSpec, attempts: int, settings: Settings, emit: Emit) -> tuple[Path, list[Result]]:
    """Make a run of one task with one agent: preflight once, then each attempt. Returns its folder and results.

    Three infra errors in a row that are alike end the run: the next attempt would meet the same.
    Raises UsageError or InfraError before anything is written where the task or the host cannot run, PromptBlockedError
    where the prompt gives the solution away or is about another repository, unless `spec.allow_leak`.
    """
    with Gateway() as gateway:
        return _run_task(task, spec, attempts, settings, emit, gateway)


def _run_task(
    task: Task, spec: AttemptSpec, attempts: int, settings: Settings, emit: Emit, gateway: Gateway
) -> tuple[Path, list[Result]]:
    check_folders(settings)
    check_agent(spec)
    ready = make_ready(task, spec, settings, emit)
    check_agent_on(ready.bench, spec, emit, gateway)
    spec = replace(spec, prompt_check=ready.checked, claims=attempts)
    run_id = new_run_id()
    folder = settings.results / run_id
    folder.mkdir(parents=True)
    about = {
        "schema": "omniperf/run/v1", "run_id": run_id, "started": now(), "omniperf": omniperf.__version__,
        "task": task.id, "agent": spec.agent, "attempts": attempts, "options": dict(spec.options),
        "template": ready.prompt.template, "hints": spec.hints,
    }  # fmt: skip
    write_whole(folder / "run.json", json.dumps(about, indent=1).encode())
    results: list[Result] = []
    failures = Failures()
    for n in range(1, attempts + 1):
        place = folder / task.id / f"{spec.agent}.{n}"
        place.mkdir(parents=True)
        try:
            one = replace(spec, run_id=run_id, n=n)
            run_attempt(ready.bench, ready.proved, one, ready.prompt, place, emit, gateway=gateway)
        finally:  # an attempt that was interrupted has a result too
            if (place / "result.json").is_file():
                results.append(load_result(place))
                _sum_up(folder, place, results, spec.agent if attempts == 1 else place.name)
        outcome = results[-1].outcome
        if outcome.kind != "infra_error":
            failures.end()
        elif (why := failures.add(outcome.infra_kind, outcome.detail)) and n < attempts:
            emit(Event("report", f"the run ends after {n} of {attempts} attempts: {why}", {}))
            break
    return folder, results


def _sum_up(folder: Path, place: Path, results: list[Result], name: str) -> None:
    """Add an attempt that has ended to what is kept beside the attempts."""
    diff = place / "model_patch.diff"
    if diff.is_file():
        line = prediction(results[-1].identity.task_id, name, diff.read_bytes())
        append_line(folder / "predictions.jsonl", line, exact=True)
    write_whole(folder / "summary.json", json.dumps(summary(folder.name, results), indent=1).encode())


def summary(run_id: str, results: list[Result]) -> dict[str, object]:
    """What `summary.json` holds: each attempt in a line, and how many verdicts there are of each class."""
    rows = [
        {
            "task": result.identity.task_id,
            "agent": result.identity.label,
            "n": result.identity.n,
            "outcome": result.outcome.kind,
            "verdict": result.verdict.class_,
            "speedup": result.verdict.speedup.speedup if result.verdict.speedup else None,
            "parent": result.start.parent if result.start else None,
        }
        for result in results
    ]
    classes = Counter(result.verdict.class_ for result in results)
    about = {"schema": "omniperf/summary/v1", "run_id": run_id, "verdicts": classes}
    return {**about, "best_of": best_of(results), "attempts": rows}
