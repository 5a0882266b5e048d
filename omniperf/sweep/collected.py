"""Patches that an attempt had collected when it was killed: they are measured, and nothing before is done again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from omniperf.agents.discover import load_agent
from omniperf.attempt import measured
from omniperf.record import make_result
from omniperf.results import schema
from omniperf.results.journal import Journal
from omniperf.results.store import read_lines, write_whole
from omniperf.verify.integrity.rules import unrepeated
from omniperf.verify.integrity.trajectory import inspect_trajectory
from omniperf.workspace.patch import Patch

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.measure.bench import Bench
    from omniperf.prompt.render import Prompt
    from omniperf.record import AttemptSpec
    from omniperf.results.events import Emit
    from omniperf.verify.preflight import Preflight


def collected(folder: Path) -> tuple[Patch, dict[str, Any]] | None:
    """The patch that an attempt without a result has collected, and what its journal says of it; None without one."""
    last: dict[str, Any] = {}
    for line in read_lines(folder / "journal.jsonl"):
        last = line if line["kind"] == "collected" else last
    diff = folder / "model_patch.diff"
    if not last or not diff.is_file():
        return None
    files = tuple(schema.PatchFile.model_validate(file) for file in last["files"])
    patch = Patch(diff.read_bytes(), last["tree"], files)
    return (patch, last) if patch.sha256 == last["sha256"] else None


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
        verdict = measured(bench, proved, spec, patch, folder, emit)
        journal.write("verified", verdict=verdict.class_)
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
            schema.Outcome.model_validate(known["outcome"]), verdict, usage, known["model"], known["started"],
        )  # fmt: skip
        write_whole(folder / "environment.json", json.dumps(result.environment, indent=1).encode())
        write_whole(folder / "result.json", result.model_dump_json(by_alias=True, indent=1).encode())
        journal.write("result", outcome=result.outcome.kind, verdict=verdict.class_)
    return result
