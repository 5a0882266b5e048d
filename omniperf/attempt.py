"""One attempt, start to finish: task -> workspace -> prompt -> agent -> patch -> verdict -> result.

`run_attempt` is the story; what it calls says how. Outcome (how the attempt ended) and verdict (what its patch is
worth) are kept apart: the first is the agent's and the host's doing, the second is measured by the harness alone.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import omniperf
from omniperf.agents.budget import Budget, BudgetExhaustedError
from omniperf.agents.discover import load_agent
from omniperf.agents.protocol import Session
from omniperf.agents.tools import SessionTools
from omniperf.errors import InfraError, OmniPerfError, UsageError
from omniperf.measure.bench import open_bench
from omniperf.prompt.render import render
from omniperf.results import schema
from omniperf.results.events import Event
from omniperf.results.journal import Journal
from omniperf.results.predictions import prediction
from omniperf.results.store import append_line, new_run_id, write_whole
from omniperf.tasks.load import task_sha256
from omniperf.verify import scope
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from omniperf.workspace.patch import collect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from omniperf.agents.protocol import Agent
    from omniperf.measure.bench import Bench
    from omniperf.prompt.render import Prompt
    from omniperf.results.events import Emit
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from omniperf.verify.preflight import Preflight
    from omniperf.workspace.patch import Patch
    from omniperf.workspace.worktree import Workspace


@dataclass(frozen=True)
class AttemptSpec:
    """What distinguishes one attempt from another. Plain data."""

    run_id: str
    agent: str
    n: int
    options: Mapping[str, str] = field(default_factory=dict)
    template: str = "optimize"
    hints: bool = True
    versus_human: bool = False
    keep_workspace: bool = False


def run_attempt(bench: Bench, proved: Preflight, spec: AttemptSpec, folder: Path, emit: Emit) -> schema.Result:
    """Run one attempt and leave everything it was in `folder`. Never raises for what the agent or its patch does."""
    started, clock = _now(), time.monotonic()
    task, agent = bench.task, load_agent(spec.agent)
    patch: Patch | None = None
    verdict, usage, phase = schema.Verdict(), schema.Usage(), "workspace"
    with Journal(folder / "journal.jsonl") as journal:
        journal.write("attempt", run=spec.run_id, task=task.id, agent=spec.agent, n=spec.n)
        prompt = render(task, spec.template, hints=spec.hints)
        _write_inputs(folder, task, prompt)
        emit(Event("workspace", "making a sealed workspace", {}))
        workspace = bench.workspace(f"{spec.agent}-{spec.n}")
        try:
            phase = "agent"
            outcome, usage = _solve(agent, bench, workspace, proved, prompt, spec, journal, emit)
            phase = "collect"
            patch = collect(workspace)
            write_whole(folder / "model_patch.diff", patch.data)
            journal.write("collected", sha256=patch.sha256, files=len(patch.files))
            phase = "verify"
            measurements = folder / "measurements.jsonl"
            verdict = verify_patch(
                bench, patch.data, proved, lambda line: append_line(measurements, dict(line)), emit,
                versus_human=spec.versus_human,
            )  # fmt: skip
            journal.write("verified", verdict=verdict.class_)
        except KeyboardInterrupt:
            journal.write("cancelled", phase=phase)
            raise
        except Exception as error:
            outcome = _failure(error, phase, folder)
            journal.write("failed", phase=phase, outcome=outcome.kind, detail=outcome.detail)
        finally:
            if not spec.keep_workspace:
                workspace.remove()
        usage = usage.model_copy(
            update={
                "wall_seconds": time.monotonic() - clock,
                "device_seconds": usage.device_seconds + verdict.cost.lane_seconds,
            }
        )
        result = _result(bench, spec, agent, prompt, patch, outcome, verdict, usage, started)
        write_whole(folder / "environment.json", json.dumps(result.environment, indent=1).encode())
        write_whole(folder / "result.json", result.model_dump_json(by_alias=True, indent=1).encode())
        journal.write("result", outcome=outcome.kind, verdict=verdict.class_)
    return result


def _solve(
    agent: Agent, bench: Bench, workspace: Workspace, proved: Preflight, prompt: Prompt, spec: AttemptSpec,
    journal: Journal, emit: Emit,
) -> tuple[schema.Outcome, schema.Usage]:  # fmt: skip
    """Let the agent work. Its own failures are an outcome; the host's are raised."""
    budget = Budget(bench.task.limits)
    emit(Event("agent", spec.agent, {}))
    with SessionTools(bench, workspace, proved, budget, journal, emit) as tools:
        reference = bench.human_patch() if getattr(agent, "needs_reference", False) else None
        session = Session(bench.task, prompt.text, workspace, tools, budget, journal, spec.options, reference)
        try:
            ended = agent.solve(session)
            kind, detail = ended.kind, ended.detail
        except BudgetExhaustedError as error:
            kind, detail = "budget", str(error)
        except OmniPerfError:
            raise
        except Exception as error:
            journal.write("agent-traceback", text=traceback.format_exc())
            kind, detail = "agent_error", f"{type(error).__name__}: {error}"
        outcome = schema.Outcome(kind=kind, detail=detail, finish_called=tools.finished is not None)
        usage = schema.Usage(
            steps=budget.steps,
            device_seconds=tools.device_seconds,
            seconds_to_first_edit=tools.first_edit,
            seconds_to_first_gain=tools.first_gain,
        )
    return outcome, usage


def _failure(error: Exception, phase: str, folder: Path) -> schema.Outcome:
    """An attempt that the harness or the host ended."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    write_whole(logs / "traceback.txt", "".join(traceback.format_exception(error)).encode())
    kind = "infra_error" if isinstance(error, InfraError) else "harness_error"
    infra_kind = error.kind if isinstance(error, InfraError) else None
    detail = str(error) if isinstance(error, OmniPerfError) else f"{type(error).__name__}: {error}"
    return schema.Outcome.model_validate(
        {"kind": kind, "infra_kind": infra_kind, "detail": detail, "phase": phase, "evidence": "logs/traceback.txt"}
    )


def _write_inputs(folder: Path, task: Task, prompt: Prompt) -> None:
    write_whole(folder / "prompt.md", prompt.text.encode())
    write_whole(folder / "task.json", task.model_dump_json(by_alias=True, indent=1).encode())


def _result(
    bench: Bench, spec: AttemptSpec, agent: Agent, prompt: Prompt, patch: Patch | None, outcome: schema.Outcome,
    verdict: schema.Verdict, usage: schema.Usage, started: str,
) -> schema.Result:  # fmt: skip
    from omniperf.measure.host import host_facts

    task = bench.task
    content = [task_sha256(task), prompt.sha256, bench.seal.tree, spec.agent, agent.version, dict(spec.options), spec.n]
    identity = schema.Identity(
        run_id=spec.run_id,
        attempt_id=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16],
        task_id=task.id,
        task_sha256=task_sha256(task),
        prompt_sha256=prompt.sha256,
        prompt_template=prompt.template,
        agent=spec.agent,
        agent_version=agent.version,
        label=spec.agent,
        n=spec.n,
        omniperf_version=omniperf.__version__,
    )
    interpreter = bench.environment.interpreter
    return schema.Result(
        identity=identity,
        started=started,
        finished=_now(),
        outcome=outcome,
        patch=None if patch is None else _patch_info(patch, task),
        verdict=verdict,
        usage=usage,
        provenance=schema.Provenance(
            source=bench.source.label,
            base=bench.source.base,
            base_tree=bench.seal.tree,
            human=bench.source.human,
            patched_tree=None if patch is None else patch.tree,
        ),
        environment={**host_facts(), "task_python": interpreter.version, "task_environment": bench.environment.key},
        sandbox=bench.backend.name,
    )


def _patch_info(patch: Patch, task: Task) -> schema.PatchInfo:
    files = scope.mark(patch.files, task)
    return schema.PatchInfo(
        sha256=patch.sha256,
        bytes=len(patch.data),
        files=files,
        added=sum(file.added or 0 for file in files),
        removed=sum(file.removed or 0 for file in files),
        in_scope=all(file.in_scope for file in files),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def run_task(
    task: Task, spec: AttemptSpec, attempts: int, settings: Settings, emit: Emit
) -> tuple[Path, list[schema.Result]]:
    """Make a run of one task with one agent: preflight once, then each attempt. Returns its folder and results.

    Raises UsageError or InfraError before anything is written where the task or the host cannot run.
    """
    from dataclasses import replace

    agent = load_agent(spec.agent)
    # The bundled quickstart runs our own code on our own library: the one case that may go without walls by itself.
    ours = task.id == "quickstart" and spec.agent == "pattern"
    emit(Event("preflight", f"{task.id}: repository, base, environment", {}))
    bench = open_bench(task, settings, emit, may_fall_back=ours)
    if getattr(agent, "needs_reference", False) and bench.human_patch() is None:
        raise UsageError(
            f"Task {task.id} has no human patch for the agent {spec.agent!r}.", "Give `repo.human` or `human_patch`."
        )
    proved = preflight(bench, emit)
    run_id = new_run_id()
    folder = settings.results / run_id
    folder.mkdir(parents=True)
    about = {
        "schema": "omniperf/run/v1", "run_id": run_id, "started": _now(), "omniperf": omniperf.__version__,
        "task": task.id, "agent": spec.agent, "attempts": attempts, "options": dict(spec.options),
    }  # fmt: skip
    write_whole(folder / "run.json", json.dumps(about, indent=1).encode())
    results = []
    for n in range(1, attempts + 1):
        place = folder / task.id / f"{spec.agent}.{n}"
        place.mkdir(parents=True)
        result = run_attempt(bench, proved, replace(spec, run_id=run_id, n=n), place, emit)
        results.append(result)
        diff = place / "model_patch.diff"
        if diff.is_file():
            append_line(folder / "predictions.jsonl", prediction(task.id, spec.agent, diff.read_bytes()))
        write_whole(folder / "summary.json", json.dumps(_summary(run_id, results), indent=1).encode())
    return folder, results


def _summary(run_id: str, results: list[schema.Result]) -> dict[str, object]:
    classes: dict[str, int] = {}
    for result in results:
        classes[result.verdict.class_] = classes.get(result.verdict.class_, 0) + 1
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
    return {"schema": "omniperf/summary/v1", "run_id": run_id, "verdicts": classes, "attempts": rows}
