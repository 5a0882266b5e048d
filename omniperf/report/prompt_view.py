"""Prompts on a terminal, and what they give away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from omniperf.report.escape import one_line, visible
from omniperf.report.numbers import count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omniperf.results.schema import PromptCheck
    from omniperf.tasks.schema import Task

_STATUSES = {
    "clean": ("clean", "green"),
    "leaks": ("LEAKS", "bold red"),
    "foreign": ("FOREIGN", "bold red"),
    "not checked": ("not checked", "dim"),
}
_SUMMARIES = {
    "clean": "nothing found",
    "leaks": "the prompt gives the human solution away",
    "foreign": "the prompt has text of another repository",
    "not checked": "there was nothing to compare with",
}
_SHOWN = 4


def prompt_view(task: Task, template: str, sha256: str, prompt: str) -> RenderableType:
    """Return a prompt between rules: headings bold, diffs coloured, every character that hides something escaped."""
    size = f"{count(prompt.count(chr(10)), 'line')}, {len(prompt):,} characters"
    facts = [template, size, f"sha256 {sha256[:12]}", *(["prompt-only"] if task.prompt_only else [])]
    head = Text.assemble((visible(task.id), "bold"), (f"  {one_line(' · '.join(facts))}", "dim"))
    body = Text("\n").join(Text(visible(line), _style(line)) for line in prompt.removesuffix("\n").split("\n"))
    return Group(head, Rule(style="dim"), body, Rule(style="dim"))


def check_view(task_id: str, template: str, check: PromptCheck) -> RenderableType:
    """Return what was compared, what was not, and the evidence for what was found."""
    word, style = _STATUSES[check.status]
    head = Text.assemble((word, style), f"  {one_line(f'{task_id} · {template}')}: {_SUMMARIES[check.status]}")
    unchecked = sum(part.status == "not checked" for part in check.parts)
    if unchecked and check.status != "not checked":
        head.append(f"; {unchecked} of {count(len(check.parts), 'part')} not checked", "dim")
    view = Table.grid(padding=(0, 2))
    view.add_column(no_wrap=True)
    view.add_column(no_wrap=True)
    view.add_column(overflow="fold")
    for part in check.parts:
        word, style = _STATUSES[part.status]
        view.add_row(Text(word, style), Text(one_line(part.name), "bold"), Text(one_line(part.detail)))
    found = [part for part in check.parts if part.evidence]
    parts: list[RenderableType] = [head, Text(), view]
    for part in found:
        shown = [one_line(evidence) for evidence in part.evidence[:_SHOWN]]
        more = len(part.evidence) - len(shown)
        parts += [Text(), Text(one_line(part.name), "bold"), *(Padding(Text(line), (0, 0, 0, 2)) for line in shown)]
        parts += [Padding(Text(f"and {more} more (--json shows all)", "dim"), (0, 0, 0, 2))] if more else []
    return Group(*parts)


def _style(line: str) -> str:
    if line.startswith("#"):
        return "bold"
    if line.startswith(("@@ ", "diff --git ")):
        return "cyan"
    if line.startswith(("+", "-")) and not line.startswith("- "):
        return "green" if line[0] == "+" else "red"
    return ""
