"""`tasks validate`: every claim of a task file checked against the real repository, one line a claim."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.measure.bench import open_bench
from omniperf.report.numbers import count
from omniperf.results.events import Event
from omniperf.verify.preflight import check_targets, preflight, reached_targets
from omniperf.workspace.patch import parse

if TYPE_CHECKING:
    from omniperf.results.events import Emit
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task


@dataclass(frozen=True)
class Check:
    """One claim and whether it holds."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def validate_task(task: Task, settings: Settings, emit: Emit) -> list[Check]:
    """Check a task whose file has loaded. Stops at the first claim that fails: later ones depend on it."""
    checks = [Check("task file", True, f"{task.id}: the schema holds, the workload parses")]
    if task.prompt_only:
        return [*checks, Check("prompt only", True, "it has no repo and no workload: it cannot run")]
    step = "repository, base, environment"
    try:
        bench = open_bench(task, settings, emit)
        version = f", {bench.source.version}" if bench.source.version else ""
        checks.append(Check(step, True, f"{bench.source.label} at {bench.source.base[:12]}{version}"))
        step = "targets"
        with bench.tree("validate") as base, tempfile.TemporaryDirectory(prefix="omniperf-") as caches:
            check_targets(bench, base)
            checks.append(Check(step, True, ", ".join(task.targets)))
            step = "workload reaches a target"
            emit(Event("preflight", "running the workload on base", {}))
            reached = reached_targets(bench, base, Path(caches)).functions
            shown = ", ".join(reached[:3]) + (f" and {len(reached) - 3} more" if len(reached) > 3 else "")
            checks.append(Check(step, True, shown or "not checked: the task says `reach: none`"))
        step = "workload and tests on base"
        proved = preflight(bench, emit)
        tests = "no tests"
        if proved.tests is not None:
            tests = f"{count(len(proved.tests.listed), 'test')} pass in {proved.tests.seconds:.1f} s"
            tests += f", {len(proved.tests.aside)} set aside" if proved.tests.aside else ""
        short = " (aim at 0.1 s or more)" if proved.base_seconds < 0.01 else ""
        took = f"one run takes {1000 * proved.base_seconds:.3g} ms{short}"
        checks.append(Check(step, True, f"{took}, outputs repeat, {tests}"))
        step = "human patch"
        reference = bench.human_patch()
        if reference is None:
            checks.append(Check(step, True, "none"))
        else:
            files = parse(bench.seal, reference).files
            checks.append(Check(step, True, f"applies to base and changes {', '.join(file.path for file in files)}"))
    except OmniPerfError as error:
        checks.append(Check(step, False, f"{error.output}\n{error.message}".strip(), error.remedy))
    return checks
