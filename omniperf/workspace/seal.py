"""Seals: per (repo, base, omit) a bare repository that holds base and nothing else.

Whatever an agent can reach through git comes from a seal, so what is not in it (the human commit, later history, tags,
other attempts) cannot be found by any git command.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import UsageError
from omniperf.tasks.globs import matches
from omniperf.workspace.lock import locked
from omniperf.workspace.plumbing import EXACT_BYTES, IDENTITY, GitError, git, text

if TYPE_CHECKING:
    from omniperf.workspace.source import Source

_FORMAT = "2"  # part of the key: raise it when what a seal holds changes


@dataclass(frozen=True)
class Seal:
    """A bare repository with one commit, its tree, and the pack that holds them."""

    git_dir: Path
    commit: str
    tree: str

    @property
    def pack(self) -> Path:
        """The folder with the one pack."""
        return self.git_dir / "objects" / "pack"

    @property
    def index(self) -> Path:
        """Base as an index of no worktree."""
        return self.git_dir / "base-index"


def seal(source: Source, omit: tuple[str, ...], cache: Path) -> Seal:
    """Return the seal of a source's base, making it on first use.

    Raises UsageError where the store lacks objects of the tree that `omit` does not name.
    """
    key = hashlib.sha256(json.dumps([_FORMAT, source.base, sorted(omit)]).encode()).hexdigest()[:20]
    git_dir = cache / "seals" / key
    with locked(git_dir.with_suffix(".lock")):
        if not git_dir.is_dir():
            scratch = Path(tempfile.mkdtemp(dir=git_dir.parent, prefix=f".{key}-"))
            try:
                _make(source, omit, scratch)
                scratch.chmod(0o755)
                scratch.rename(git_dir)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
    commit, tree = (git_dir / "base").read_text().split()
    return Seal(git_dir, commit, tree)


def _make(source: Source, omit: tuple[str, ...], folder: Path) -> None:
    git("init", "-q", "--bare", str(folder))
    alternates = folder / "objects" / "info" / "alternates"
    alternates.write_text(f"{(source.git_dir / 'objects').resolve()}\n")
    if (shared := source.git_dir / "objects" / "info" / "alternates").is_file():  # alternates do not nest far enough
        alternates.write_text(alternates.read_text() + shared.read_text())
    commit = _without(source.base, omit, folder) if omit else source.base
    listing = git("rev-list", "--objects", "--no-walk", "--missing=print", commit, git_dir=folder).splitlines()
    missing = [line[1:].decode() for line in listing if line.startswith(b"?")]
    if missing:
        names = _paths_of(missing, commit, folder)
        raise UsageError(
            f"{source.label} lacks {len(missing)} object(s) of {commit[:12]}, such as {names[0]}.",
            "Name the files under `repo.omit`, or use a complete repository.",
        )
    pack = folder / "objects" / "pack" / "pack"
    wanted = b"".join(line.split(b" ", 1)[0] + b"\n" for line in listing)
    git("pack-objects", "-q", str(pack), git_dir=folder, stdin=wanted)
    alternates.unlink()
    git("prune-packed", "-q", git_dir=folder)
    if git("rev-list", "--no-walk", "--parents", commit, git_dir=folder).split()[1:]:
        (folder / "shallow").write_text(f"{commit}\n")
    (folder / "info").mkdir(exist_ok=True)
    (folder / "info" / "attributes").write_text(EXACT_BYTES)
    git("config", "gc.auto", "0", git_dir=folder)
    git("read-tree", commit, git_dir=folder, index=folder / "base-index")
    tree = text(git("rev-parse", f"{commit}^{{tree}}", git_dir=folder))
    (folder / "base").write_text(f"{commit} {tree}\n")


def _without(commit: str, omit: tuple[str, ...], folder: Path) -> str:
    """A parentless commit of the tree without the omitted paths, its trees written into the folder."""
    index = folder / "omit-index"
    git("read-tree", commit, git_dir=folder, index=index)
    entries = git("ls-files", "-z", git_dir=folder, index=index).decode("utf-8", "surrogateescape").split("\0")
    dropped = [path for path in entries if path and matches(path, omit)]
    if not dropped:
        raise UsageError(f"`repo.omit` {list(omit)} matches no file of {commit[:12]}.", "Correct or drop it.")
    removal = "".join(f"0 {'0' * 40}\t{path}\0" for path in dropped).encode("utf-8", "surrogateescape")
    git("update-index", "-z", "--index-info", git_dir=folder, index=index, stdin=removal)
    tree = text(git("write-tree", "--missing-ok", git_dir=folder, index=index))
    index.unlink()
    return text(git("commit-tree", tree, "-m", "base", git_dir=folder, env=IDENTITY))


def _paths_of(objects: list[str], commit: str, folder: Path) -> list[str]:
    """Name missing objects by their paths where the trees are there to tell."""
    try:
        listing = git("ls-tree", "-r", "-z", commit, git_dir=folder).decode("utf-8", "surrogateescape").split("\0")
    except GitError:
        return objects
    by_object = {line.split("\t")[0].split()[2]: line.split("\t", 1)[1] for line in listing if line}
    return [by_object.get(name, name) for name in objects]
