"""Scope: a patch may touch its task's targets, and never what judges it; and what of it a reader should know."""

from __future__ import annotations

import posixpath
import re
import shlex
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from omniperf.results.schema import Finding
from omniperf.tasks.globs import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.results.schema import PatchFile
    from omniperf.tasks.schema import Task
    from omniperf.workspace.patch import Patch

TESTS = ("**/test_*.py", "**/*_test.py", "**/conftest.py", "**/tests/**", "**/test/**", "**/testing/**")
BUILD = (
    "**/setup.py", "**/setup.cfg", "**/pyproject.toml", "**/tox.ini", "**/noxfile.py", "**/pytest.ini", "**/Makefile",
    "**/CMakeLists.txt", "**/meson.build", "**/build.rs", "**/*.bazel", "**/*.bzl", "**/*.gradle", "**/*.gradle.kts",
    "**/pom.xml", "**/package.json", "**/Cargo.toml", "**/go.mod", "**/Gemfile", "**/justfile", "**/hatch_build.py",
    "**/MANIFEST.in", "**/requirements*.txt", "**/requirements*.in", "**/environment.y*ml", "**/pixi.toml",
    "**/Pipfile", "**/Dockerfile*", "**/*.Dockerfile", "**/Containerfile*", "**/docker-compose*", "**/.dockerignore",
    "**/.devcontainer/**", "**/.gitattributes", "**/.gitmodules", "**/.gitignore", "**/.lfsconfig",
)  # fmt: skip
LOCKS = (
    "**/*.lock", "**/*.lockfile", "**/*.lockb", "**/package-lock.json", "**/npm-shrinkwrap.json", "**/pnpm-lock.yaml",
    "**/go.sum", "**/conda-lock*.y*ml", "**/Package.resolved", "**/pylock*.toml",
)  # fmt: skip
CI = (
    ".github/**", ".gitlab-ci.yml", ".gitlab/**", ".circleci/**", ".ci/**", ".buildkite/**", ".travis.yml",
    "azure-pipelines*.yml", "Jenkinsfile", "appveyor.yml", ".appveyor.yml", ".drone.yml", "bitbucket-pipelines.yml",
    "**/.pre-commit-config.y*ml", "**/.pre-commit-hooks.y*ml", "**/.husky/**",
)  # fmt: skip
START_UP = (
    "**/sitecustomize.py", "**/usercustomize.py", "**/sitecustomize/**", "**/usercustomize/**", "**/*.pth",
    "**/*.dist-info/**", "**/*.egg-info/**",
)  # fmt: skip
PROTECTED = TESTS + BUILD + LOCKS + CI + START_UP

VENDORED = (
    "**/vendor/**", "**/_vendor/**", "**/vendored/**", "**/_vendored/**", "**/third_party/**", "**/thirdparty/**",
    "**/3rdparty/**", "**/node_modules/**", "**/site-packages/**",
)  # fmt: skip
GENERATED = ("**/*_pb2.py", "**/*_pb2_grpc.py", "**/*.pb.go", "**/*.min.js", "**/*.min.css", "**/*.js.map")
LARGEST_FILE, LARGEST_PATCH = 2**20, 5 * 2**20  # bytes

_LINK, _SUBMODULE, _EXECUTABLE = "120000", "160000", "100755"

# Letters of other scripts that are drawn as Latin ones (Unicode's confusables, as far as they are lower-case letters).
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһӏԛԝкмтвгпεαοικνρτυχγηϲıȷɡɑɩʟոսօցհքƽ",
    "aeopcyxijsdhlqwkmtbrneaoikvptuxyncijgailnuoghqs",
)


def mark(files: tuple[PatchFile, ...], task: Task) -> tuple[PatchFile, ...]:
    """The files with `in_scope` filled in; a rename must be in scope at both ends.

    Protected files stay out even where a target's glob covers them; only `allow_protected` opens them.
    """
    scope = _Scope(task)
    return tuple(
        file.model_copy(update={"in_scope": all(scope.has(path) for path in (file.path, file.old_path) if path)})
        for file in files
    )


def findings(patch: Patch, task: Task) -> tuple[Finding, ...]:
    """What speaks against a patch (`reject`, these first), and what a reader should know of it (`warn`)."""
    scope = _Scope(task)
    found = [finding for file in mark(patch.files, task) for finding in _of_file(file, scope)]
    if len(patch.data) > LARGEST_PATCH:
        found.append(_large("The patch", len(patch.data), LARGEST_PATCH))
    return tuple(sorted(found, key=lambda finding: finding.severity != "reject"))


def rejects(found: tuple[Finding, ...]) -> bool:
    """Whether any of these findings makes a patch `rejected`."""
    return any(finding.severity == "reject" for finding in found)


class _Scope:
    """What a task opens to a patch, and what it keeps closed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.guarded = (*PROTECTED, *_named(task))
        self._folded = tuple(map(_folded, self.guarded))

    def has(self, path: str) -> bool:
        """Whether the task lets a patch touch that path."""
        task = self.task
        return matches(path, task.allow_protected) or (matches(path, task.targets) and not self.guards(path))

    def guards(self, path: str) -> bool:
        """Whether a path is one that judges a patch, or is taken for one: by some file system, or by a reader."""
        return matches(_folded(path), self._folded)


def _of_file(file: PatchFile, scope: _Scope) -> Iterator[Finding]:
    if not file.in_scope:
        yield _outside(file, scope)
    if _SUBMODULE in (file.mode, file.old_mode):
        yield _finding("submodule", f"The patch changes {file.path}, a submodule.", _modes(file), reject=True)
    elif file.mode == _LINK:
        yield from _of_link(file, scope)
    elif file.mode == _EXECUTABLE != file.old_mode:
        yield _finding("executable-file", f"The patch makes {file.path} executable.", _modes(file))
    if matches(file.path, VENDORED):
        yield _finding("vendored-file", f"The patch changes {file.path}, which is vendored.", file.status)
    if file.generated or matches(file.path, GENERATED):
        yield _finding("generated-file", f"The patch changes {file.path}, which is generated.", file.status)
    if file.added is None and file.mode != _SUBMODULE and file.status != "deleted":
        yield _finding("binary-file", f"The patch holds {file.path}, a binary that nobody can read.", file.status)
    if (file.bytes or 0) > LARGEST_FILE:
        yield _large(file.path, file.bytes or 0, LARGEST_FILE)


def _outside(file: PatchFile, scope: _Scope) -> Finding:
    paths = [path for path in (file.path, file.old_path) if path and not scope.has(path)]
    path = next((path for path in paths if scope.guards(path)), paths[0])
    kind, reason = "out-of-scope", "outside the task's targets"
    evidence = f"{file.status}: {file.path}" + (f" (from {file.old_path})" if file.old_path else "")
    if scope.guards(path):
        kind, reason = "protected-file", "a protected file (tests, benchmark, build, lock, CI or start-up code)"
        if not matches(path, scope.guarded):
            kind, reason = "protected-lookalike", "which passes for a protected file"
            evidence = f"{file.status}: {path!a} can be taken for {_folded(path)!r}"
    return Finding(
        id=kind, severity="reject", message=f"The patch touches {path}, {reason}.", evidence=evidence,
        remedy=f"Change only {', '.join(scope.task.targets)}.",
    )  # fmt: skip


def _of_link(file: PatchFile, scope: _Scope) -> Iterator[Finding]:
    """A finding where a link leads out of the tree, into git, or to what is protected."""
    target = file.link or ""
    evidence = f"{_modes(file)}: {file.path} -> {target}"
    led = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), target))
    if target.startswith("/") or led == ".." or led.startswith("../"):
        yield _finding("link-outside", f"The patch makes {file.path} a link out of the tree.", evidence, reject=True)
    elif scope.guards(led) or scope.guards(f"{led}/_") or _folded(led).split("/")[0] == ".git":
        yield _finding("link-protected", f"The patch makes {file.path} a link to {led}.", evidence, reject=True)


def _finding(id_: str, message: str, evidence: str, *, reject: bool = False) -> Finding:
    return Finding(id=id_, severity="reject" if reject else "warn", message=message, evidence=evidence)


def _large(what: str, size: int, most: int) -> Finding:
    message = f"{what} has {size:,} bytes, more than anyone reads."
    return _finding("large-file", message, f"{size / 2**20:.1f} MiB, of {most // 2**20} MiB")


def _modes(file: PatchFile) -> str:
    return f"mode {file.old_mode or 'none'} -> {file.mode or 'none'}"


@lru_cache(maxsize=4096)
def _folded(path: str) -> str:
    """A path as a file system that ignores case and forms of Unicode has it, or a reader sees it."""
    seen = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", path).casefold()).translate(_LOOK_ALIKES)
    shown = "".join(one for one in seen if unicodedata.category(one) not in ("Mn", "Cf", "Cc"))
    return "/".join(part.rstrip(" .") or part for part in shown.split("/"))


def _named(task: Task) -> Iterator[str]:
    """The files of the tree that judge the patch because the task names them.

    These are the workload's own, where the task lies in the repository, the scripts that its commands run, and the
    files of its tests. What is a target by its very name is one all the same.
    """
    if task.repo is not None and task.repo.path and task.workload is not None:
        top = (task.folder / task.repo.path).resolve()
        for name in ("task.yaml", *task.workload.all_files.values()):
            if (file := (task.folder / name).resolve()).is_relative_to(top):
                yield _literal(file.relative_to(top).as_posix())
    workload, environment = task.workload, task.environment
    commands = [workload.command, workload.serve] if workload else []
    for command in filter(None, (*commands, *task.tests, *environment.setup, *environment.build)):
        for word in _scripts(command, all_files=command in task.tests):
            path = posixpath.normpath(word.removeprefix("/workspace/"))
            if path not in task.targets:
                yield _literal(path)


def _scripts(command: str, *, all_files: bool) -> Iterator[str]:
    """The script that a command runs; with `all_files` also every Python file among its arguments."""
    try:
        words = shlex.split(command)
    except ValueError:  # a shell may take it all the same
        words = command.split()
    if words and re.fullmatch(r"python[0-9.]*|bash|sh", words[0]):
        words = words[1:]
        while words and words[0].startswith("-") and words[0] not in ("-m", "-c"):
            words = words[1:]
    if words and (re.search(r"\.(py|sh)$", words[0]) or "/" in words[0]):
        yield words[0]
    yield from (path for word in words if all_files and (path := word.partition("::")[0]).endswith(".py"))


def _literal(path: str) -> str:
    """A glob that covers that path alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)
