"""What an attempt that was killed can go on from: a patch that is only to be measured, or its last complete step."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from omniperf.agents.discover import load_agent
from omniperf.agents.resume import resume_point
from omniperf.attempt import failure, measured
from omniperf.errors import OmniPerfError
from omniperf.record import make_result
from omniperf.results import schema
from omniperf.results.journal import Journal
from omniperf.results.store import read_lines, write_whole
from omniperf.verify.integrity.rules import unrepeated
from omniperf.verify.integrity.trajectory import inspect_trajectory
from omniperf.workspace.patch import Patch

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.agents.resume import ResumePoint
    from omniperf.measure.bench import Bench
    from omniperf.prompt.render import Prompt
    from omniperf.record import AttemptSpec
    from omniperf.results.events import Emit
    from omniperf.verify.preflight import Preflight


def collected(folder: Path) -> tuple[Patch, dict[str, Any]] | None:
    """The patch that an attempt without a result has collected, and what its journal says of it; None without one."""
    last: dict[str, Any] = {}
    try:
        for line in read_lines(folder / "journal.jsonl"):
            last = line if line["kind"] == "collected" else last
    except OmniPerfError:  # it was changed by hand
        return None
    diff = folder / "model_patch.diff"
    if not last or not diff.is_file():
        return None
    files = tuple(schema.PatchFile.model_validate(file) for file in last["files"])
    patch = Patch(diff.read_bytes(), last["tree"], files)
    return (patch, last) if patch.sha256 == last["sha256"] else None


def last_step(folder: Path, agent: str) -> ResumePoint | None:
    """The last complete step of an attempt without a result; None where there is none, or its agent cannot go on."""
    if not getattr(load_agent(agent), "resumes", False):
        return None
    try:
        return resume_point(folder)
    except OmniPerfError:  # it was changed by hand
        return None


def measure_collected(
    bench: Bench, proved: Preflight, spec: AttemptSpec, prompt: Prompt, folder: Path, emit: Emit
) -> schema.Result:
    """Measure the patch that `collected` found there, and write the result that the attempt would have had."""
    found = collected(folder)
    assert found is not None
    patch, known = found
    clock = time.monotonic()
    (folder / "measurements.jsonl").unlink(missing_ok=True)  # of a measurement that was cut short, under other seeds
    with Journal(folder / "journal.jsonl") as journal:
        journal.write("resumed", phase="verify")
        outcome, verdict = schema.Outcome.model_validate(known["outcome"]), schema.Verdict()
        try:
            verdict = measured(bench, proved, spec, patch, folder, emit)
            journal.write("verified", verdict=verdict.class_)
        except Exception as error:  # as in an attempt that was never killed
            outcome = failure(error, "verify", folder)
            journal.write("failed", phase="verify", outcome=outcome.kind, detail=outcome.detail)
        own = tuple(schema.Finding.model_validate(one) for one in known["findings"])
        seen = inspect_trajectory(read_lines(journal.path), bench.task)
        verdict = verdict.model_copy(update={"findings": unrepeated((*verdict.findings, *own, *seen))})
        usage = schema.Usage.model_validate(known["usage"])
        usage = usage.model_copy(
            update={
                "wall_seconds": usage.wall_seconds + time.monotonic() - clock,
                "device_seconds": usage.device_seconds + verdict.cost.lane_seconds,
            }
        )
        result = make_result(
            bench, spec, load_agent(spec.agent), prompt, patch, known["source"],
            outcome, verdict, usage, known["model"], known["started"],
        )  # fmt: skip
        write_whole(folder / "environment.json", json.dumps(result.environment, indent=1).encode())
        write_whole(folder / "result.json", result.model_dump_json(by_alias=True, indent=1).encode())
        journal.write("result", outcome=result.outcome.kind, verdict=verdict.class_)
    return result
