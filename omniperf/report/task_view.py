"""A task on a terminal, as OmniPerf understands it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from omniperf.report.escape import plain
from omniperf.report.terminal import facts_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from omniperf.tasks.schema import Legacy, Repo, Task, Workload


def task_view(task: Task, sha256: str, kind: str | None, certificates: Sequence[str] = ()) -> RenderableType:
    """Return what a task asks and allows; `kind` is that of its workload, `certificates` a line for each."""
    limits, measure, wanted = task.limits, task.measure, task.resources
    facts = {
        "repo": _repo(task.repo) if task.repo else "none: this task only renders a prompt",
        "legacy": _legacy(task.legacy) if task.legacy else "",
        "targets": "\n".join(task.targets),
        "workload": _workload(task.workload, kind) if task.workload else "",
        "metrics": ", ".join(
            metric.name
            + (" (primary)" if metric.primary else "" if metric.guard else " (shown only)")
            + (f", at most {metric.guard}x worse" if metric.guard else "")
            for metric in task.metrics
        ),
        "tests": "\n".join(task.tests) or "none",
        "setup": "\n".join(task.environment.setup),
        "build": "\n".join(task.environment.build),
        "resources": f"{wanted.cpus} CPU, {wanted.memory_gib:g} GiB"
        + (f", {wanted.gpus} GPU with {wanted.gpu_memory_gib:g} GiB" if wanted.gpus else ""),
        "limits": f"{limits.steps} steps, {limits.minutes:g} min, ${limits.usd:g}, {limits.tokens:,} tokens",
        "measure": f"margin {measure.margin * 100:g} %, smallest effect that matters {measure.min_effect * 100:g} %, "
        f"confidence {measure.confidence * 100:g} %, at most {measure.max_minutes:g} min",
        "constraints": "\n".join(task.constraints),
        "tags": ", ".join(task.tags),
        "folder": str(task.folder),
        "sha256": sha256,
        "certificate": "\n".join(certificates),
    }
    head = Text.assemble((plain(task.id), "bold"), f"  {plain(task.title)}")
    description = [Text(), Text(_flowing(plain(task.description)))] if task.description else []
    return Group(head, *description, Text(), facts_view(facts))


def _flowing(text: str) -> str:
    """Join the lines of plain paragraphs, which the terminal wraps again; keep lists and indented lines."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n").rstrip()):
        kept = any(re.match(r"\s|[-*#>|]|\d+[.)]", line) for line in paragraph.splitlines())
        paragraphs.append(paragraph if kept else " ".join(paragraph.split()))
    return "\n\n".join(paragraphs)


def _legacy(legacy: Legacy) -> str:
    return f"of {legacy.repo}, for the template {legacy.template}: {', '.join(legacy.files.values())}"


def _workload(workload: Workload, kind: str | None) -> str:
    what = workload.file or workload.command or f"{workload.serve}\nload {workload.load}"
    return f"{what} ({kind})" + "".join(f"\nfile {name}" for name in workload.files)


def _repo(repo: Repo) -> str:
    human = f"\nhuman {repo.human or repo.human_patch}" if repo.human or repo.human_patch else ""
    return f"{repo.url or repo.path or repo.pypi}" + (f"\nbase {repo.base}" if repo.base else "") + human
