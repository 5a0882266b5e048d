"""Running git so that nothing of the user's configuration, and nothing an agent left, takes part."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, cast

from omniperf.errors import InfraError, OmniPerfError
from omniperf.results.redact import keyless

if TYPE_CHECKING:
    from pathlib import Path

# Trees must hold the exact bytes of their blobs, whatever .gitattributes says: no end-of-line conversion, no filters,
# no custom diff drivers. `$GIT_DIR/info/attributes` overrides the tree's own files.
EXACT_BYTES = "* -text -filter -ident -working-tree-encoding !eol !diff !merge\n"

# One author and date for every commit the harness makes, so that equal trees have equal commits.
IDENTITY = {
    "GIT_AUTHOR_NAME": "base",
    "GIT_AUTHOR_EMAIL": "base@localhost",
    "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "base",
    "GIT_COMMITTER_EMAIL": "base@localhost",
    "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z",
}

_ISOLATED = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
    "HOME": os.devnull,
}

_OF_THE_NETWORK = (
    "GIT_SSL",
    "GIT_PROXY",
    "GH_TOKEN",
    "GITHUB_TOKEN",
)  # the tokens are for the user's credential helper

# Names that git refuses because some file system takes them for `.git`, and code points that such a one passes over.
_GIT_ITSELF = re.compile(r"(?:\.git|git~1)[. ]*(?::.*)?", re.IGNORECASE | re.DOTALL)
_PASSED_OVER = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


class GitError(OmniPerfError):
    """A git command failed; `stderr` is what it said."""

    def __init__(self, args: tuple[str, ...], stderr: str) -> None:
        lines = stderr.strip().splitlines() or ["git said nothing"]
        super().__init__(f"git {args[0]} failed: {lines[-1]}")
        self.stderr = stderr


def git(
    *args: str,
    git_dir: Path | None = None,
    work_tree: Path | None = None,
    index: Path | None = None,
    stdin: bytes | None = None,
    env: dict[str, str] | None = None,
    network: bool = False,
    umask: int = -1,
) -> bytes:
    """Run git and return its standard output.

    With `network` the user's own git configuration and environment apply (proxies, credentials, certificates);
    otherwise neither does. Raises GitError, or InfraError where git is missing.
    """
    if network:
        environment = {key: value for key, value in keyless().items() if not key.startswith("GIT_")}
        environment |= {key: value for key, value in os.environ.items() if key.startswith(_OF_THE_NETWORK)}
        environment["GIT_TERMINAL_PROMPT"] = "0"
    else:
        environment = {"PATH": os.environ.get("PATH", os.defpath), **_ISOLATED}
    for name, value in (("GIT_DIR", git_dir), ("GIT_WORK_TREE", work_tree), ("GIT_INDEX_FILE", index)):
        if value is not None:
            environment[name] = str(value)
    environment.update(env or {})
    if (program := _program(environment.get("PATH", os.defpath))) is None:
        raise InfraError("missing_dep", "git was not found.", "Install git 2.31 or newer.")
    # An explicit configuration for every call: nothing in a repository may start a program of its own.
    command = (program, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", *args)
    # Files in memory instead of pipes: git never waits for us to read, nor we for it to write.
    with _in_memory() as given, _in_memory() as out, _in_memory() as said:
        if stdin:
            given.write(stdin)
            given.seek(0)
        code = subprocess.call(
            command, stdin=given, stdout=out, stderr=said, env=environment, cwd=work_tree or git_dir, umask=umask
        )
        out.seek(0)
        if code != 0:
            said.seek(0)
            raise GitError(args, said.read().decode(errors="replace"))
        return out.read()


@lru_cache
def _program(path: str) -> str | None:
    """Where git is: to try every folder of a long PATH at each call costs as much as git takes to start."""
    return shutil.which("git", path=path)


def _in_memory() -> BinaryIO:
    return cast("BinaryIO", os.fdopen(os.memfd_create("git"), "w+b", buffering=0))


def text(output: bytes) -> str:
    """Decode one line of git's output."""
    return output.decode("utf-8", "surrogateescape").strip()


def is_git(path: str) -> bool:
    """Whether git refuses a path because a part of it is `.git` by another name."""
    return any(_GIT_ITSELF.fullmatch(_PASSED_OVER.sub("", part)) for part in re.split(r"[/\\]", path))
