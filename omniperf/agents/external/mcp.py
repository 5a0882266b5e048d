"""The harness's tools as an MCP server, where the extra `mcp` is installed: what of it a sandbox must show."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from omniperf.agents.external.find import Client
from omniperf.sandbox.spec import Mount

if TYPE_CHECKING:
    from omniperf.tasks.schema import Task

NAME = "omniperf"
"""What the server is called in a client's configuration."""

PACKAGE = "mcp>=2.3"  # as the extra has it
_PLACE = "/omniperf/mcp"
_DEEPEST = 2  # folders, below which no package of a repository is looked for
_SCRIPT = Path(__file__).with_name("inside") / "mcp_server.py"


def mcp_server(task: Task, tree: Path) -> Client | None:
    """The server, to be started inside by `argv`; None where its package is not installed, or too old.

    Of this process's packages it shows the official package and what that needs, no others. None too where one of
    them is what the task, whose worktree is `tree`, is about: a newer release would be there to copy.
    """
    try:
        shown = _needed(PACKAGE)
    except PackageNotFoundError:
        return None
    if _own(task, tree) & {_leading(path.name) for path in shown}:
        return None
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}").resolve()
    mounts = [Mount(path, f"{_PLACE}/packages/{path.name}") for path in sorted(shown)]
    place = f"{_PLACE}/mcp_server.py"
    return Client((str(python), "-I", place), "", (*mounts, Mount(_SCRIPT, place)), python.parent.parent)


def _own(task: Task, tree: Path) -> set[str]:
    """What packages of the task's may be called: its repo, each part of its targets' paths, and what the tree holds."""
    names = {part for target in task.targets for part in target.split("/")}
    for folder, folders, files in os.walk(tree):
        names.update(folders, files)
        if len(Path(folder).relative_to(tree).parts) == _DEEPEST:
            folders.clear()
    if task.repo is not None:
        source = task.repo.url or task.repo.path or (task.repo.pypi or "").partition("==")[0]
        names.add(source.rstrip("/").rpartition("/")[2])
    return {_leading(name) for name in names} - {""}


def _leading(name: str) -> str:
    """A name without what follows it in that of a file or folder, as distributions' are compared."""
    return re.split(r"\.|_\d", re.sub("[-_]+", "_", name.lower()))[0]


def _needed(asked: str) -> set[Path]:
    """What a package and those that it needs have put beside each other.

    Raises PackageNotFoundError, also where one that is there is another version than is needed.
    """
    wanted, seen, found = [Requirement(asked)], set[str](), set[Path]()
    while wanted:
        requirement = wanted.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        package = distribution(requirement.name)
        if not requirement.specifier.contains(package.version, prereleases=True):
            raise PackageNotFoundError(f"{requirement.name}{requirement.specifier}")
        for file in package.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__", "/"):
                found.add(Path(str(package.locate_file(top))))
        extras = {"", *requirement.extras}
        for line in package.requires or ():
            needs = Requirement(line)
            if needs.marker is None or any(needs.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needs)
    return {path for path in found if path.exists()}


def why_not() -> str:
    """Why no client is offered the server, whatever its task is; "" where it is."""
    try:
        _needed(PACKAGE)
    except PackageNotFoundError as error:
        return f"{error.name} is not installed beside OmniPerf"
    return ""
