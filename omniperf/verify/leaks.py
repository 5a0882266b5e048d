"""What there is to hold a task's prompt against: the human patch, its commit, and the names of other repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.prompt.check import Reference, check_prompt
from omniperf.prompt.foreign import other_names, own_names
from omniperf.tasks.globs import matches
from omniperf.tasks.legacy import legacy_texts
from omniperf.tasks.load import list_tasks
from omniperf.workspace.plumbing import GitError, git
from omniperf.workspace.source import human_patch

if TYPE_CHECKING:
    from omniperf.prompt.render import Prompt
    from omniperf.results.schema import PromptCheck
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from omniperf.workspace.source import Source


class PromptBlockedError(OmniPerfError):
    """A prompt that gives the solution away, or is about another repository, may not be run."""

    exit_code = 3


def check_of(task: Task, prompt: Prompt, source: Source | None, settings: Settings) -> PromptCheck:
    """Check a task's prompt against its human commit; `source` is None for a prompt-only task."""
    return check_prompt(prompt.text, reference(task, source, settings))


def refuse(task: Task, prompt: Prompt, check: PromptCheck) -> None:
    """Raise PromptBlockedError where the check found something."""
    if check.blocks:
        found = ", ".join(part.name for part in check.parts if part.status in ("leaks", "foreign"))
        what = "leaks the human solution" if check.status == "leaks" else "has text of another repository"
        raise PromptBlockedError(
            f"The prompt {prompt.template} of task {task.id} {what} ({found}).",
            f"`omniperf prompt check {task.id} --template {prompt.template.partition('@')[0]}` shows where; "
            "correct the task or choose another --template, or run with --allow-leak, which the result records.",
        )


def reference(task: Task, source: Source | None, settings: Settings) -> Reference:
    """All that is known of the human solution: what the repository has of it, and what the legacy metadata declares."""
    texts = legacy_texts(task)
    known = [entry.task for entry in list_tasks(settings) if entry.task is not None]
    names = task.workload.all_files.values() if task.workload else ()
    workload = "\n".join((task.folder / name).read_bytes().decode("utf-8", "replace") for name in names)
    patch = human_patch(task, source) if source else None
    messages = [_message(source) if source else None, texts.commit_message if texts else None]
    statistics = [_statistics(source, patch) if source else None, texts.statistics if texts else None]
    declared_sha = task.legacy.human if task.legacy else None
    return Reference(
        patch=patch,
        base=lambda: _base_text(task, source, patch) if source else "",
        message="\n".join(filter(None, messages)) or None,
        statistics="\n".join(filter(None, statistics)) or None,
        sha=(source.human if source else None) or declared_sha,
        example=texts.example_diff if texts else None,
        targets=task.targets,
        own_names=own_names(task, _paths(source) if source else (), workload),
        other_names=other_names(task, known),
    )


def _message(source: Source) -> str | None:
    if source.human is None:
        return None
    return git("log", "-1", "--format=%B", source.human, git_dir=source.git_dir).decode("utf-8", "replace")


def _statistics(source: Source, patch: bytes | None) -> str | None:
    """The human commit's statistics, and those of the part of it that is the human patch."""
    said = [git("apply", "--stat", "-", git_dir=source.git_dir, stdin=patch)] if patch else []
    if source.human:
        try:
            pair = (source.base, source.human)
            said.append(git("diff-tree", "-r", "--stat=200", "--no-ext-diff", *pair, git_dir=source.git_dir))
        except GitError:  # a mirror may lack files that the task leaves out
            pass
    return b"\n".join(said).decode("utf-8", "replace") if said else None


def _paths(source: Source) -> list[str]:
    listing = git("ls-tree", "-r", "-z", "--name-only", source.base, git_dir=source.git_dir)
    return listing.decode("utf-8", "surrogateescape").split("\0")[:-1]


def _base_text(task: Task, source: Source, patch: bytes | None) -> str:
    """The text at base of every file that the targets name or the patch touches."""
    touched = git("apply", "--numstat", "-z", "-", git_dir=source.git_dir, stdin=patch).split(b"\0") if patch else []
    paths = {line.split(b"\t", 2)[2].decode("utf-8", "surrogateescape") for line in touched if line.count(b"\t") == 2}
    wanted = [path for path in _paths(source) if path in paths or matches(path, task.targets)]
    names = "".join(f"{source.base}:{path}\n" for path in wanted).encode("utf-8", "surrogateescape")
    # A line of git's own stands before each file, and does no harm.
    return git("cat-file", "--batch", git_dir=source.git_dir, stdin=names).decode("utf-8", "replace")
