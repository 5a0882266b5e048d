"""Scope: a patch may touch its task's targets, and never what judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.results.schema import Finding
from omniperf.tasks.globs import matches

if TYPE_CHECKING:
    from omniperf.results.schema import PatchFile
    from omniperf.tasks.schema import Task

TESTS = ("**/test_*.py", "**/*_test.py", "**/conftest.py", "**/tests/**", "**/test/**", "**/testing/**")
BUILD = (
    "setup.py", "setup.cfg", "pyproject.toml", "tox.ini", "noxfile.py", "pytest.ini", "Makefile", "CMakeLists.txt",
    "**/*.lock", "**/requirements*.txt", "MANIFEST.in", ".github/**", ".gitlab-ci.yml", ".circleci/**", ".ci/**",
    "**/.gitattributes", "**/.gitmodules", "**/.gitignore",
)  # fmt: skip
START_UP = ("**/sitecustomize.py", "**/usercustomize.py", "**/sitecustomize/**", "**/usercustomize/**", "**/*.pth")
PROTECTED = TESTS + BUILD + START_UP


def in_scope(path: str, task: Task) -> bool:
    """Whether the task lets a patch touch that path.

    Protected files stay out even where a target's glob covers them; only `allow_protected` opens them.
    """
    if matches(path, task.allow_protected):
        return True
    return matches(path, task.targets) and not matches(path, PROTECTED)


def mark(files: tuple[PatchFile, ...], task: Task) -> tuple[PatchFile, ...]:
    """The files with `in_scope` filled in; a rename must be in scope at both ends."""
    return tuple(
        file.model_copy(update={"in_scope": all(in_scope(path, task) for path in (file.path, file.old_path) if path)})
        for file in files
    )


def findings(files: tuple[PatchFile, ...], task: Task) -> tuple[Finding, ...]:
    """One finding for every file outside the scope."""
    found = []
    for file in files:
        if file.in_scope:
            continue
        protected = matches(file.path, PROTECTED)
        kind = "a protected file (tests, build, CI or start-up code)" if protected else "outside the task's targets"
        found.append(
            Finding(
                id="protected-file" if protected else "out-of-scope",
                severity="reject",
                message=f"The patch touches {file.path}, {kind}.",
                evidence=f"{file.status}: {file.path}" + (f" (from {file.old_path})" if file.old_path else ""),
                remedy=f"Change only {', '.join(task.targets)}.",
            )
        )
    return tuple(found)
