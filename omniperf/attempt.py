"""One attempt, start to finish: task -> workspace -> prompt -> agent -> patch -> verdict -> result.

`run_attempt` is the story; what it calls says how. Outcome (how the attempt ended) and verdict (what its patch is
worth) are kept apart: the first is the agent's and the host's doing, the second is measured by the harness alone.
"""

from __future__ import annotations

import json
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from omniperf.agents.discover import load_agent
from omniperf.agents.work import Work
from omniperf.errors import InfraError, OmniPerfError
from omniperf.record import as_collected, make_result, now
from omniperf.results import schema
from omniperf.results.events import Event
from omniperf.results.journal import Journal
from omniperf.results.start import parent_patch
from omniperf.results.store import append_line, read_lines, write_whole
from omniperf.verify.integrity.rules import unrepeated
from omniperf.verify.integrity.trajectory import inspect_trajectory
from omniperf.verify.verdict import verify_patch
from omniperf.workspace.patch import NotCollectableError, PatchDoesNotApplyError, collect

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from omniperf.agents.resume import ResumePoint
    from omniperf.gateway.process import Entrance
    from omniperf.measure.bench import Bench
    from omniperf.prompt.render import Prompt
    from omniperf.record import AttemptSpec
    from omniperf.results.events import Emit
    from omniperf.results.schema import Phase
    from omniperf.verify.preflight import Preflight
    from omniperf.workspace.patch import Patch
    from omniperf.workspace.worktree import Workspace


def run_attempt(
    bench: Bench, proved: Preflight, spec: AttemptSpec, prompt: Prompt, folder: Path, emit: Emit,
    point: ResumePoint | None = None, gateway: Entrance | None = None,
) -> schema.Result:  # fmt: skip
    """Run one attempt, from `point` on, with the run's gateway, and leave everything it was in `folder`.

    Never raises for what the agent or its patch does.
    """
    started, clock = now(), time.monotonic()
    task, agent = bench.task, load_agent(spec.agent, spec.options)
    workspace: Workspace | None = None
    patch: Patch | None = None
    source: Literal["final", "best"] = "final"
    cancelled: KeyboardInterrupt | None = None
    phase: Phase = "workspace"
    verdict = schema.Verdict()
    with Journal(folder / "journal.jsonl") as journal:
        about = {"agent": spec.agent, "label": spec.name, "n": spec.n, "options": dict(spec.options)}
        about["limits"] = {**task.limits.model_dump(), **spec.limits}
        journal.write("attempt", run=spec.run_id, task=task.id, **about)
        work = Work(bench, proved, spec.limits, journal, emit, gateway)
        try:
            write_whole(folder / "prompt.md", prompt.data, exact=True)
            write_whole(folder / "task.json", task.model_dump_json(by_alias=True, indent=1).encode())
            emit(Event("workspace", "making a sealed workspace", {}))
            workspace = bench.workspace(f"{spec.name}-{spec.n}")
            if spec.start is not None and spec.start.parent is not None:
                workspace = workspace.holding(parent_patch(folder, spec.name, spec.start))
            phase = "agent"
            emit(Event("agent", spec.agent, {}))
            outcome = work.run(agent, workspace, prompt.text, spec.options, point)
            phase = "collect"
            chosen = work.choose(workspace)
            patch, source = chosen.patch, chosen.source
            write_whole(folder / "model_patch.diff", patch.data, exact=True)
            if chosen.other is not None:
                other = folder / f"model_patch.{'final' if source == 'best' else 'best'}.diff"
                write_whole(other, chosen.other.data, exact=True)
            spent = work.usage(time.monotonic() - clock, verdict)
            journal.write(
                "collected", **as_collected(patch, source, outcome, spent, work.model, chosen.findings, started)
            )
            phase = "verify"
            verdict = measured(bench, proved, spec, patch, folder, emit)
            verdict = verdict.model_copy(update={"findings": (*verdict.findings, *chosen.findings)})
            journal.write("verified", verdict=verdict.class_)
        except NotCollectableError as error:  # the agent's doing, and no reason to lose what else is known
            verdict = schema.Verdict(class_="invalid", reason=str(error))
            journal.write("not-collected", detail=str(error))
        except PatchDoesNotApplyError as error:  # of the agent `patch`: there is nothing to collect
            outcome = schema.Outcome(kind="agent_error", detail=str(error), phase=phase)
            verdict = schema.Verdict(class_="invalid", reason=str(error))
            journal.write("not-applied", detail=str(error))
        except KeyboardInterrupt as interrupt:
            cancelled = interrupt
            outcome = schema.Outcome(kind="cancelled", detail="interrupted", phase=phase)
            journal.write("cancelled", phase=phase)
        except Exception as error:
            outcome = failure(error, phase, folder)
            if patch is None and workspace is not None:  # what the agent had done by then is kept, unmeasured
                with suppress(OmniPerfError, OSError):
                    patch = collect(workspace, final=True)
                    write_whole(folder / "model_patch.diff", patch.data, exact=True)
                if work.best is not None and (patch is None or work.best.tree != patch.tree):
                    write_whole(folder / "model_patch.best.diff", work.best.data, exact=True)
            journal.write("failed", phase=phase, outcome=outcome.kind, detail=outcome.detail)
        finally:
            if workspace is not None and not spec.keep_workspace:
                _remove(workspace, journal)
        seen = inspect_trajectory(read_lines(journal.path), task)
        verdict = verdict.model_copy(update={"findings": unrepeated((*verdict.findings, *seen))})
        usage = work.usage(time.monotonic() - clock, verdict)
        result = make_result(
            bench, spec, agent, prompt, patch, source, outcome, verdict, usage, work.model, started
        )  # fmt: skip
        write_whole(folder / "environment.json", json.dumps(result.environment, indent=1).encode())
        write_whole(folder / "result.json", result.model_dump_json(by_alias=True, indent=1).encode())
        journal.write("result", outcome=outcome.kind, verdict=verdict.class_)
    if cancelled is not None:
        raise cancelled
    return result


def measured(
    bench: Bench, proved: Preflight, spec: AttemptSpec, patch: Patch, folder: Path, emit: Emit
) -> schema.Verdict:
    """What the collected patch is worth; `unverified` where nobody asked."""
    if not spec.verify:
        return schema.Verdict(reason="its measurement was left for later")
    return verify_patch(
        bench, patch.data, proved, lambda line: append_line(folder / "measurements.jsonl", dict(line)), emit,
        claims=spec.claims, versus_human=spec.versus_human,
    )  # fmt: skip


def failure(error: Exception, phase: Phase, folder: Path) -> schema.Outcome:
    """An attempt that the harness or the host ended."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    said = [*traceback.format_exception(error), getattr(error, "output", "")]
    write_whole(logs / "traceback.txt", "".join(said).encode())
    kind: schema.OutcomeKind = "infra_error" if isinstance(error, InfraError) else "harness_error"
    infra_kind = error.kind if isinstance(error, InfraError) else None
    detail = str(error) if isinstance(error, OmniPerfError) else f"{type(error).__name__}: {error}"
    return schema.Outcome(kind=kind, infra_kind=infra_kind, detail=detail, phase=phase, evidence="logs/traceback.txt")


def _remove(workspace: Workspace, journal: Journal) -> None:
    """Delete the workspace; that it cannot be deleted is no reason to lose what was found."""
    try:
        workspace.remove()
    except OSError as error:
        journal.write("left-behind", detail=str(error))
