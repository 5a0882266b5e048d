"""Text of another repository in a prompt: its imports, its paths, its dotted names.

Which repositories there are is known from the tasks. A name counts as the task's own where its repository, its targets,
its set-up or its tree has it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from omniperf.tasks.schema import Task

# Folders that many repositories have: what is in them names a package, they themselves do not.
_AROUND_PACKAGES = {"src", "lib", "python"}
_ANYWHERE = {"benchmark", "benchmarks", "csrc", "docs", "examples", "include", "scripts", "test", "tests", "tools"}


def names_of(task: Task) -> frozenset[str]:
    """The names by which code of the task's repository is called: the repository's, and those of its packages."""
    names = {task.legacy.repo} if task.legacy else set()
    if task.repo and task.repo.url:
        names.add(task.repo.url.rstrip("/").rpartition("/")[2].removesuffix(".git"))
    if task.repo and task.repo.pypi:
        names.add(task.repo.pypi.partition("==")[0])
    for target in task.targets:
        folders = target.split("/")[:-1]
        if folders and folders[0] in _AROUND_PACKAGES:
            folders = folders[1:]
        names |= {folder for folder in folders[:1] if folder not in _ANYWHERE}
    return frozenset(_name(name) for name in names if re.fullmatch(r"[\w.-]+", name))


def own_names(task: Task, paths: Iterable[str] = (), workload: str = "") -> frozenset[str]:
    """All names that are at home in a task; `paths` are those of its tree, `workload` is the text of its workload."""
    places = {part.partition(".")[0] for path in (*paths, *task.targets) for part in path.split("/")}
    set_up = {word for command in task.environment.setup for word in re.findall(r"[A-Za-z][\w-]*", command)}
    imported = re.findall(r"^\s*(?:from|import)\s+(\w+)", workload, re.MULTILINE)
    return names_of(task) | {_name(name) for name in (*places, *set_up, *imported)}


def other_names(task: Task, known: Iterable[Task]) -> dict[str, frozenset[str]]:
    """The names of every other repository that a known task is about, by the repository's first name."""
    own = names_of(task)
    sets = {names for other in known if (names := names_of(other)) and not names & own}
    return {min(names): names for names in sets}


def foreign_lines(prompt: str, own: frozenset[str], others: Mapping[str, frozenset[str]]) -> list[str]:
    """The lines of a prompt that import, locate or name something of another repository, as `line N (REPO): text`."""
    owner = {name: repo for repo, names in sorted(others.items()) for name in names if name not in own}
    if not owner:
        return []
    any_of = "|".join(sorted(map(re.escape, owner)))
    code = re.compile(
        rf"^\s*(?:from|import)\s+({any_of})\b | (?<![\w./-])({any_of})/\w | (?<![\w./-])({any_of})\.[A-Za-z_]\w*",
        re.VERBOSE,
    )
    found = []
    for number, line in enumerate(prompt.split("\n"), 1):
        if match := code.search(line):
            found.append(f"line {number} ({owner[next(filter(None, match.groups()))]}): {' '.join(line.split())}")
    return found


def _name(name: str) -> str:
    """A name as Python would import it."""
    return name.lower().replace("-", "_")
