"""A run of one task: preflight once, then every attempt from a fresh workspace."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import omniperf
from omniperf.agents.discover import load_agent
from omniperf.agents.preflight import check_options
from omniperf.attempt import run_attempt
from omniperf.errors import UsageError
from omniperf.measure.bench import open_bench
from omniperf.prompt.render import render
from omniperf.record import AttemptSpec, now
from omniperf.results.events import Event
from omniperf.results.predictions import prediction
from omniperf.results.store import append_line, check_folders, load_result, new_run_id, write_whole
from omniperf.verify.leaks import check_of, refuse
from omniperf.verify.preflight import preflight

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.events import Emit
    from omniperf.results.schema import Result
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task


def run_task(task: Task, spec: AttemptSpec, attempts: int, settings: Settings, emit: Emit) -> tuple[Path, list[Result]]:
    """Make a run of one task with one agent: preflight once, then each attempt. Returns its folder and results.

    Raises UsageError or InfraError before anything is written where the task or the host cannot run, PromptBlockedError
    where the prompt gives the solution away or is about another repository, unless `spec.allow_leak`.
    """
    agent = load_agent(spec.agent)
    check_folders(settings)
    check_options(agent, spec.agent, spec.options)
    # The bundled quickstart runs our own code on our own library: the one case that may go without walls by itself.
    ours = task.id == "quickstart" and spec.agent == "pattern"
    emit(Event("preflight", f"{task.id}: repository, base, environment", {}))
    bench = open_bench(task, settings, emit, may_fall_back=ours)
    if getattr(agent, "needs_reference", False) and bench.human_patch() is None:
        raise UsageError(
            f"Task {task.id} has no human patch for the agent {spec.agent!r}.", "Give `repo.human` or `human_patch`."
        )
    if getattr(agent, "needs_walls", False) and not bench.backend.isolated:
        raise UsageError(f"The agent {spec.agent!r} runs in a sandbox alone.", "Use `--sandbox bubblewrap`.")
    prompt = render(task, spec.template, hints=spec.hints, workspace=bench.tree_seen)
    checked = check_of(task, prompt, bench.source, settings)
    if not spec.allow_leak:
        refuse(task, prompt, checked)
    spec = replace(spec, prompt_check=checked, claims=attempts)
    proved = preflight(bench, emit)
    if (ready := getattr(agent, "ready", None)) is not None:  # may spend a little, so it comes last
        ready(spec.options, emit)
    run_id = new_run_id()
    folder = settings.results / run_id
    folder.mkdir(parents=True)
    about = {
        "schema": "omniperf/run/v1", "run_id": run_id, "started": now(), "omniperf": omniperf.__version__,
        "task": task.id, "agent": spec.agent, "attempts": attempts, "options": dict(spec.options),
        "template": prompt.template, "hints": spec.hints,
    }  # fmt: skip
    write_whole(folder / "run.json", json.dumps(about, indent=1).encode())
    results: list[Result] = []
    for n in range(1, attempts + 1):
        place = folder / task.id / f"{spec.agent}.{n}"
        place.mkdir(parents=True)
        try:
            run_attempt(bench, proved, replace(spec, run_id=run_id, n=n), prompt, place, emit)
        finally:  # an attempt that was interrupted has a result too
            if (place / "result.json").is_file():
                results.append(load_result(place))
                _sum_up(folder, place, results)
    return folder, results


def _sum_up(folder: Path, place: Path, results: list[Result]) -> None:
    """Add an attempt that has ended to what is kept beside the attempts."""
    identity, diff = results[-1].identity, place / "model_patch.diff"
    if diff.is_file():
        line = prediction(identity.task_id, identity.label, diff.read_bytes())
        append_line(folder / "predictions.jsonl", line, exact=True)
    write_whole(folder / "summary.json", json.dumps(_summary(folder.name, results), indent=1).encode())


def _summary(run_id: str, results: list[Result]) -> dict[str, object]:
    rows = [
        {
            "task": result.identity.task_id,
            "agent": result.identity.label,
            "n": result.identity.n,
            "outcome": result.outcome.kind,
            "verdict": result.verdict.class_,
            "speedup": result.verdict.speedup.speedup if result.verdict.speedup else None,
        }
        for result in results
    ]
    classes = Counter(result.verdict.class_ for result in results)
    return {"schema": "omniperf/summary/v1", "run_id": run_id, "verdicts": classes, "attempts": rows}
