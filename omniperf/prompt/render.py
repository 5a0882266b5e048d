"""Rendering a task into the prompt an agent sees. The human patch is not within reach of a template."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.errors import UsageError
from omniperf.shipped import shipped
from omniperf.tasks.legacy import legacy_texts

if TYPE_CHECKING:
    from omniperf.tasks.schema import Task

DEFAULT = "optimize"
WORKSPACE = "/workspace"


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt and the template it came from: `name@version`, and the hash of the file's bytes."""

    text: str
    template: str
    template_sha256: str

    @property
    def data(self) -> bytes:
        """The text as it is written; the name of a workspace may hold bytes that are not UTF-8."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return hashlib.sha256(self.data).hexdigest()


def own_template(task: Task) -> str:
    """The template for a task where none is chosen: that of the metadata which is all that a prompt-only task has."""
    return task.legacy.template if task.prompt_only and task.legacy else DEFAULT


def render(task: Task, template: str = DEFAULT, *, hints: bool = True, workspace: str = WORKSPACE) -> Prompt:
    """Render a task; `workspace` is the folder of the checkout as the agent sees it.

    Raises UsageError for a template that does not exist or asks for legacy metadata that the task does not have.
    """
    import jinja2

    files = {path.name.removesuffix(".md.j2"): path for path in shipped("prompts").glob("*.md.j2")}
    if template not in files:
        raise UsageError(f"There is no prompt template {template!r}.", f"Choose one of: {', '.join(sorted(files))}.")
    data = files[template].read_bytes()
    source = data.decode()
    version = re.match(r"\{# version: (\S+) #\}\n", source)
    if version is None:
        raise UsageError(f"The prompt template {files[template]} has no version.", "Begin it with `{# version: N #}`.")
    environment = jinja2.Environment(  # noqa: S701 - a prompt is text, not HTML
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    values = {"task": task, "primary": task.primary_metric, "hints": hints, "workspace": workspace, "percent": _percent}
    legacy = legacy_texts(task)
    if legacy is not None:
        values["legacy"] = legacy
    try:
        text = environment.from_string(source[version.end() :]).render(values)
    except jinja2.UndefinedError:
        if legacy is not None:
            raise
        raise UsageError(
            f"The template {template} is made from `legacy` metadata, which task {task.id} does not have.",
            f"Use --template {DEFAULT}, or give the task a `legacy` block.",
        ) from None
    return Prompt(text, f"{template}@{version[1]}", hashlib.sha256(data).hexdigest())


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
