"""Rendering a task into the prompt an agent sees. The human patch is not within reach of a template."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.errors import UsageError
from omniperf.shipped import shipped

if TYPE_CHECKING:
    from omniperf.tasks.schema import Task


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt and the template it came from; `template` is `name@version`."""

    text: str
    template: str

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def render(task: Task, template: str = "optimize", *, hints: bool = True) -> Prompt:
    """Render a task. Raises UsageError for a template that does not exist."""
    import jinja2

    folder = shipped("prompts")
    file = folder / f"{template}.md.j2"
    if not file.is_file():
        known = ", ".join(sorted(path.name.removesuffix(".md.j2") for path in folder.glob("*.md.j2")))
        raise UsageError(f"There is no prompt template {template!r}.", f"Choose one of: {known}.")
    source = file.read_text(encoding="utf-8")
    version = re.match(r"\{# version: (\S+) #\}\n", source)
    if version is None:
        raise UsageError(f"The prompt template {file} has no version.", "Begin it with `{# version: N #}`.")
    environment = jinja2.Environment(  # noqa: S701 - a prompt is text, not HTML
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    made = environment.from_string(source[version.end() :])
    text = made.render(task=task, primary=task.primary_metric, hints=hints, percent=lambda share: f"{100 * share:g} %")
    return Prompt(text, f"{template}@{version[1]}")
