"""The workspace as it was after each step, cheaply: a walk says which files changed, and only those are kept.

A walk compares times of change that nobody but the kernel sets, and reads nothing. What is kept lies beside the
trajectory by its hash; the trajectory says which file is which. Caches that tools make anew are left out, and so is
git: commits are made again (`resume.py`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from omniperf.agents.files import write_inside
from omniperf.errors import OmniPerfError
from omniperf.results.redact import known
from omniperf.workspace.worktree import writable_inside

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = "snapshots"  # in the attempt's folder
_LEFT_OUT = {".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
_MOST_FILES, _MOST_BYTES = 10_000, 64 * 2**20  # that changed in one step; more is not kept
_MOST_IN_ALL, _BLOCK = 512 * 2**20, 4096  # bytes of all that an attempt keeps, each file in whole blocks
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK

Delta: TypeAlias = "dict[str, tuple[int, str] | None]"
"""What changed: of each path its mode and its content's hash (of a link: where it leads), None where it is gone."""


class Snapshots:
    """What one tree was. Made before anything in it changes."""

    def __init__(self, tree: Path, store: Path) -> None:
        self._tree, self._store = tree, store
        self._seen = _walk(tree)
        kept = store.iterdir() if store.is_dir() else ()  # by the attempt that is resumed
        self._left = _MOST_IN_ALL - sum(_on_disk(file.stat().st_size) for file in kept)

    def take(self) -> Delta | None:
        """Keep what changed since the last call, often nothing. None, once: it cannot be kept, now or from now on."""
        if self._seen is None:
            return {}
        if (now := _walk(self._tree)) is None:
            self._seen = None
            return None
        before, self._seen = self._seen, now
        changed = [path for path, about in now.items() if before.get(path) != about]
        if len(changed) > _MOST_FILES or sum(now[path][0] for path in changed) > _MOST_BYTES:
            self._seen = None
            return None
        delta: Delta = dict.fromkeys(before.keys() - now.keys())
        try:
            for path in changed:
                delta[path] = stat.S_IMODE(now[path][1]) | stat.S_IFMT(now[path][1]), self._keep(path, now[path][1])
        except OSError:
            self._seen = None
            return None
        return delta

    def _keep(self, path: str, mode: int) -> str:
        full = self._tree / path
        if stat.S_ISLNK(mode):
            data = os.fsencode(full.readlink())
        else:
            with os.fdopen(os.open(full, _READ), "rb") as file:
                data = file.read(_MOST_BYTES)
        data = known(data.decode("latin-1")).encode("latin-1")
        name = hashlib.sha256(data).hexdigest()
        kept = self._store / name
        if not kept.exists():
            self._left -= _on_disk(len(data))
            if self._left < 0:  # a file that grows is kept anew after each step
                raise OSError(errno.EDQUOT, "the snapshots of one attempt are full")
            self._store.mkdir(parents=True, exist_ok=True)
            scratch = kept.with_suffix(".tmp")
            scratch.write_bytes(data)
            scratch.replace(kept)
        return name


def _on_disk(size: int) -> int:
    return max(1, -(-size // _BLOCK)) * _BLOCK


def restore(tree: Path, delta: Mapping[str, tuple[int, str] | None], store: Path) -> None:
    """Make a tree what it was after a step, from what it was before. Raises OmniPerfError where that is not kept."""
    for path, about in delta.items():
        if about is None:
            _remove(tree, path)
    for path, about in delta.items():
        if about is not None:
            mode, name = about
            _put(tree, path, mode, _kept(store / name))


def _put(tree: Path, path: str, mode: int, data: bytes) -> None:
    full = tree / path
    with suppress(OSError):
        full.unlink()
    if stat.S_ISLNK(mode):
        with writable_inside():
            full.parent.mkdir(parents=True, exist_ok=True)
        full.symlink_to(os.fsdecode(data))
        return
    write_inside(tree, path, data)
    if mode & stat.S_IXUSR:  # of its mode git keeps no more either, and who may write it is another user now
        now = stat.S_IMODE(full.stat().st_mode)
        full.chmod(now | (now & 0o444) >> 2)


def _remove(tree: Path, path: str) -> None:
    """Delete a file, and the folders above it that are empty then: a file may come in their place."""
    with suppress(OSError):
        (tree / path).unlink()
        for folder in (tree / path).parents:
            if folder == tree:
                break
            folder.rmdir()


def _kept(file: Path) -> bytes:
    with suppress(OSError):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() == file.name:
            return data
    raise OmniPerfError(f"{file} is missing or damaged.", "The attempt cannot be resumed; start it again.")


_About: TypeAlias = tuple[int, int, int, int, int]


def _walk(tree: Path) -> dict[str, _About] | None:
    """Size, mode, number and times of each file and link by its path, through no link. None where that is refused."""
    found: dict[str, _About] = {}
    pending = [""]
    try:
        while pending:
            folder = pending.pop()
            with os.scandir(f"{tree}/{folder}") as entries:
                for entry in entries:
                    if entry.name in _LEFT_OUT:
                        continue
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(about.st_mode):
                        pending.append(f"{folder}{entry.name}/")
                    elif stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode):
                        times = about.st_mtime_ns, about.st_ctime_ns
                        found[folder + entry.name] = (about.st_size, about.st_mode, about.st_ino, *times)
    except OSError:
        return None
    return found
