"""The texts of a task's legacy metadata, to the byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.errors import UsageError

if TYPE_CHECKING:
    from omniperf.tasks.schema import Task


@dataclass(frozen=True)
class LegacyTexts:
    """What the files of `legacy` hold; None for those that it does not name."""

    test_script: str
    statistics: str | None = None
    commit_message: str | None = None
    example_diff: str | None = None
    generator: str | None = None


def legacy_texts(task: Task) -> LegacyTexts | None:
    """Read the texts, line ends and blanks as they are; None where the task has no legacy metadata.

    Raises UsageError for a file that is missing or is not UTF-8.
    """
    if task.legacy is None:
        return None
    texts = {key: _read(task, key, name) for key, name in task.legacy.files.items()}
    return LegacyTexts(**texts, generator=task.legacy.generator)


def _read(task: Task, key: str, name: str) -> str:
    try:
        return (task.folder / name).read_bytes().decode()
    except OSError as error:
        said, remedy = f"cannot be read: {error.strerror}", "Write it next to the task file, or correct its name."
    except UnicodeDecodeError as error:
        said, remedy = f"is not UTF-8 at byte {error.start}", "Save it as UTF-8."
    raise UsageError(f"Task {task.id}: legacy.{key}: {name} {said}.", remedy)
