"""The patch: collected by the harness from the tree's final state, and proved by applying it to base again."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from omniperf.errors import InfraError, OmniPerfError
from omniperf.results.schema import PatchFile
from omniperf.tasks.globs import matches
from omniperf.workspace.plumbing import EXACT_BYTES, GitError, git, text
from omniperf.workspace.worktree import NOT_COLLECTED, _first_line, _rooted, remove_tree

if TYPE_CHECKING:
    from omniperf.workspace.seal import Seal
    from omniperf.workspace.worktree import Workspace

_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tsymlinks = true
\tignorecase = false
\tquotePath = false
\tautocrlf = false
"""

_DEEPEST, _LONGEST = 100, 3500  # folders, and bytes of a folder's path
_MOST_FILES, _MOST_BYTES = 10_000, 64 * 2**20  # that have changed: collecting more could take for ever

# Names that git refuses because some file system takes them for `.git`, and code points that such a one passes over.
_GIT_ITSELF = re.compile(r"(?:\.git|git~1)[. ]*(?::.*)?", re.IGNORECASE | re.DOTALL)
_PASSED_OVER = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")

_Status = Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]
_STATUS: dict[str, _Status] = {
    "A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type_changed",
}  # fmt: skip


class PatchDoesNotApplyError(OmniPerfError):
    """The diff does not apply to base."""


class NotCollectableError(OmniPerfError):
    """What the agent left in the tree cannot be made into a patch."""


@dataclass(frozen=True)
class Patch:
    """A diff against base: its bytes, the tree it leads to, and what it touches."""

    data: bytes
    tree: str
    files: tuple[PatchFile, ...]

    @property
    def sha256(self) -> str:
        """Hash of the diff's bytes."""
        return hashlib.sha256(self.data).hexdigest()


def collect(workspace: Workspace) -> Patch:
    """Collect everything between base and the tree's final state, committed or not.

    Left out: scratch and generated files, what set-up installed, new files that base's own ignore files cover, and
    names that git treats as `.git`. The agent's ignore files decide nothing: they are part of the patch. The tree is
    changed only in that nested `.git` entries and special files (sockets, fifos) are deleted, at which git would stop,
    and that what was closed is opened. Nothing that the agent did to its own git takes part.

    Raises NotCollectableError where the tree is such that git cannot take it, InfraError where the disk is full.
    """
    ignores = _base_ignores(workspace.seal)
    try:
        return _collect(workspace, ignores)
    except (OSError, GitError, PatchDoesNotApplyError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise InfraError("disk", f"The patch could not be collected: {error}.", "Make room.") from error
        said = str(error).replace(f"{workspace.tree}/", "")
        raise NotCollectableError(f"The tree that was left cannot be collected: {said}") from error


def _collect(workspace: Workspace, ignores: str) -> Patch:
    tree, seal = workspace.tree, workspace.seal
    _make_collectable(tree)
    with tempfile.TemporaryDirectory(dir=workspace.root, prefix="collect-") as scratch:
        git_dir = _fresh_git(Path(scratch), seal, NOT_COLLECTED + _rooted(workspace.installed) + ignores)
        # With its time: what was changed in the very second of the checkout is found by that alone.
        shutil.copy2(workspace.index, git_dir / "index")
        changed = _fields(git("diff-files", "-z", "--name-only", git_dir=git_dir, work_tree=tree))
        # `git add` would read the ignore files of the tree, which are the agent's by now; `ls-files` need not.
        listing = ("ls-files", "-z", "--others", f"--exclude-from={git_dir / 'info' / 'exclude'}")
        new = [path for path in _fields(git(*listing, git_dir=git_dir, work_tree=tree)) if not _is_git(path)]
        _refuse_too_much(tree, [*changed, *new])
        git("add", "-u", git_dir=git_dir, work_tree=tree)
        if new:
            stdin = "".join(path + "\0" for path in new).encode("utf-8", "surrogateescape")
            git("update-index", "--add", "-z", "--stdin", git_dir=git_dir, work_tree=tree, stdin=stdin)
        return _between(seal, text(git("write-tree", git_dir=git_dir)), git_dir)


def _refuse_too_much(tree: Path, changed: list[str]) -> None:
    """Raise NotCollectableError where more has changed than a patch may hold, by the sizes that files claim."""
    size = 0
    for path in changed:
        with suppress(OSError):  # it was deleted
            size += (tree / path).lstat().st_size
    if len(changed) > _MOST_FILES or size > _MOST_BYTES:
        most = f"{_MOST_FILES:,} files and {_MOST_BYTES // 2**20} MiB"
        raise NotCollectableError(
            f"The tree that was left cannot be collected: {len(changed):,} files of {size / 2**20:,.0f} MiB have"
            f" changed, and a patch may hold {most}."
        )


def _is_git(path: str) -> bool:
    """Whether git refuses a path because a part of it is `.git` by another name."""
    return any(_GIT_ITSELF.fullmatch(_PASSED_OVER.sub("", part)) for part in re.split(r"[/\\]", path))


@lru_cache(maxsize=16)
def _base_ignores(seal: Seal) -> str:
    """The rules of all of base's ignore files as one file, those of inner folders last: there they win."""
    listing = _fields(git("ls-tree", "-r", "-z", seal.commit, git_dir=seal.git_dir))
    entries = [line.split("\t", 1) for line in listing if line.endswith(("\t.gitignore", "/.gitignore"))]
    files = [(path.removesuffix(".gitignore"), about.split()[2]) for about, path in entries if about.startswith("100")]
    rules: list[str] = []
    for folder, blob in sorted(files, key=lambda file: file[0].count("/")):
        content = git("cat-file", "blob", blob, git_dir=seal.git_dir).decode("utf-8-sig", "surrogateescape")
        rules += [rule for line in content.split("\n") if (rule := _from_the_root(line.removesuffix("\r"), folder))]
    return "".join(rule + "\n" for rule in rules)


def _from_the_root(rule: str, folder: str) -> str:
    """A rule of a folder's ignore file (the folder ends in a slash, the root is "") as one of the root's."""
    pattern = rule.removeprefix("!")
    if rule.startswith("#") or not pattern.strip(" /"):
        return ""
    if not folder:
        return rule
    anywhere = "" if "/" in pattern.rstrip(" ").removesuffix("/") else "**/"
    return ("!" if rule != pattern else "") + _rooted([folder]).rstrip("\n") + anywhere + pattern.removeprefix("/")


def parse(seal: Seal, data: bytes) -> Patch:
    """Apply a diff to base, exactly and in memory, and return it in the form in which `collect` returns one.

    Raises PatchDoesNotApplyError.
    """
    with tempfile.TemporaryDirectory(prefix="omniperf-patch-") as scratch:
        git_dir = _fresh_git(Path(scratch), seal, "")
        git("read-tree", seal.commit, git_dir=git_dir)
        if data.strip():
            try:
                git("apply", "--cached", "--whitespace=nowarn", "-", git_dir=git_dir, stdin=data)
            except GitError as error:
                raise PatchDoesNotApplyError(
                    f"The patch does not apply to {seal.commit[:12]}: {_first_line(error)}."
                ) from None
        return _between(seal, text(git("write-tree", git_dir=git_dir)), git_dir)


def without(seal: Seal, patch: Patch, globs: tuple[str, ...]) -> Patch:
    """The patch without its changes to paths that the globs cover: those are as in base again."""
    touched = {path for file in patch.files for path in (file.path, file.old_path) if path and matches(path, globs)}
    if not touched:
        return patch
    with tempfile.TemporaryDirectory(prefix="omniperf-patch-") as scratch:
        git_dir = _fresh_git(Path(scratch), seal, "")
        listing = _fields(git("ls-tree", "-r", "-z", seal.commit, git_dir=git_dir))
        lines = [line for line in listing if _shown(line.split("\t", 1)[1]) in touched]
        git("read-tree", seal.commit, git_dir=git_dir)
        git("apply", "--cached", "--whitespace=nowarn", "-", git_dir=git_dir, stdin=patch.data)
        now = [path for path in _fields(git("ls-files", "-z", git_dir=git_dir)) if _shown(path) in touched]
        entries = [*(f"0 {'0' * 40}\t{path}" for path in now), *lines]
        stdin = "".join(entry + "\0" for entry in entries).encode("utf-8", "surrogateescape")
        git("update-index", "-z", "--index-info", git_dir=git_dir, stdin=stdin)
        return _between(seal, text(git("write-tree", git_dir=git_dir)), git_dir)


def _fresh_git(folder: Path, seal: Seal, exclude: str) -> Path:
    git_dir = folder / "git"
    for sub in ("objects/info", "refs", "info"):
        (git_dir / sub).mkdir(parents=True)
    (git_dir / "HEAD").write_text(f"{seal.commit}\n")
    (git_dir / "config").write_text(_CONFIG)
    (git_dir / "objects" / "info" / "alternates").write_text(f"{(seal.git_dir / 'objects').resolve()}\n")
    (git_dir / "info" / "attributes").write_text(EXACT_BYTES)
    (git_dir / "info" / "exclude").write_bytes(exclude.encode("utf-8", "surrogateescape"))
    shallow = seal.git_dir / "shallow"
    if shallow.is_file():
        (git_dir / "shallow").write_bytes(shallow.read_bytes())
    return git_dir


def _between(seal: Seal, tree: str, git_dir: Path) -> Patch:
    """The diff from base to a tree that the git folder holds, proved to lead from one to the other."""
    if tree == seal.tree:
        return Patch(b"", tree, ())
    pair = ("-r", "-M", seal.tree, tree)
    data = git("diff-tree", "-p", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", *pair, git_dir=git_dir)
    proof = git_dir / "proof-index"
    git("read-tree", seal.tree, git_dir=git_dir, index=proof)
    git("apply", "--cached", "--whitespace=nowarn", "-", git_dir=git_dir, index=proof, stdin=data)
    proved = text(git("write-tree", git_dir=git_dir, index=proof))
    if proved != tree:
        raise PatchDoesNotApplyError(f"The collected diff leads to tree {proved[:12]}, not to {tree[:12]}.")
    return Patch(data, tree, _files(pair, git_dir))


def _files(pair: tuple[str, ...], git_dir: Path) -> tuple[PatchFile, ...]:
    names = _fields(git("diff-tree", "-z", "--name-status", *pair, git_dir=git_dir))
    counts = _fields(git("diff-tree", "-z", "--numstat", *pair, git_dir=git_dir))
    files = []
    while names:
        letter = names.pop(0)[0]
        old_path = names.pop(0) if letter in "RC" else None
        path = names.pop(0)
        added, removed, same = counts.pop(0).split("\t", 2)
        if not same:  # a rename: its two names follow
            del counts[:2]
        files.append(
            PatchFile(
                path=_shown(path),
                old_path=None if old_path is None else _shown(old_path),
                status=_STATUS[letter],
                added=None if added == "-" else int(added),
                removed=None if removed == "-" else int(removed),
            )
        )
    return tuple(files)


def _fields(output: bytes) -> list[str]:
    return output.decode("utf-8", "surrogateescape").split("\0")[:-1]


def _shown(path: str) -> str:
    """A path as JSON can hold it, with bytes that are not UTF-8 escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _make_collectable(tree: Path) -> None:
    """Delete nested `.git` entries, special files and folders beyond what paths can name, and open what was closed."""
    pending = [tree]
    while pending:
        folder = pending.pop()
        if len(folder.parts) - len(tree.parts) > _DEEPEST or len(os.fsencode(folder)) > _LONGEST:
            remove_tree(folder)
            continue
        _open(folder, os.R_OK | os.W_OK | os.X_OK)
        for entry in list(os.scandir(folder)):
            path = Path(entry.path)
            if entry.name == ".git":
                if folder == tree:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(path)
                else:
                    path.unlink()
            elif entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif entry.is_symlink():
                continue
            elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                _open(path, os.R_OK)
            else:
                path.unlink()


def _open(path: Path, wanted: int) -> None:
    """Give the owner, who is us or the sandbox's uid, a permission that an agent took away."""
    if not os.access(path, wanted):
        path.chmod(stat.S_IMODE(path.stat().st_mode) | wanted << 6)
