"""The files of a tree as the edit tool reads and writes them, from the host: through no link, and none too large.

Code that ran in the sandbox may have planted a link to anything, or a file of any size.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from omniperf.agents.protocol import ToolError
from omniperf.results.store import disk_errors
from omniperf.workspace.worktree import writable_inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST = 4 * 2**20  # bytes of a file that is read whole
_REMEMBERED = 64 * 2**20  # bytes of replaced texts that can be taken back

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# NONBLOCK: a FIFO must not hold us.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK


class Files:
    """The files of one tree, and what the last edits replaced. Whatever cannot be done is a ToolError."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree.resolve()
        self._replaced: list[tuple[str, bytes | None]] = []  # oldest first; None: there was no such file

    def read(self, path: str) -> str:
        """The text of a file; bytes that are not UTF-8 survive as surrogates."""
        data = self._bytes(self._inside(path), path)
        if data is None:
            raise ToolError(f"{path} does not exist in the workspace.")
        return data.decode("utf-8", "surrogateescape")

    def write(self, path: str, text: str) -> None:
        """Write a whole file, making its folders."""
        inside = self._inside(path)
        try:
            data = text.encode("utf-8", "surrogateescape")  # before the file is opened, so that nothing is lost
        except UnicodeError as error:
            raise ToolError(f"{path} could not be written: {error}.") from None
        before = self._bytes(inside, path)
        self._put(inside, path, data)
        self._replaced.append((inside, before))
        while sum(len(data or b"") for _, data in self._replaced) > _REMEMBERED:
            del self._replaced[0]

    def undo(self, path: str) -> None:
        """Take back the last edit of a file."""
        inside = self._inside(path)
        at = next((at for at in reversed(range(len(self._replaced))) if self._replaced[at][0] == inside), None)
        if at is None:
            raise ToolError(f"There is no edit of {path} left to take back.")
        _, data = self._replaced.pop(at)
        if data is not None:
            self._put(inside, path, data)
            return
        with suppress(FileNotFoundError), _folder_of(self._tree, inside) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def _inside(self, path: str) -> str:
        """A path as it is within the tree, its links resolved; a ToolError for one that leads out or into git."""
        pure = PurePosixPath(path.removeprefix("/workspace/"))
        if pure.is_absolute() or ".." in pure.parts or "\0" in path or not pure.parts:
            raise ToolError(f"{path} is not a path inside the workspace.")
        try:
            inside = (self._tree / pure).resolve().relative_to(self._tree)
        except (OSError, RuntimeError, ValueError):  # too long, a loop of links, no bytes, outside
            raise ToolError(f"{path} leads out of the workspace.") from None
        if not inside.parts or ".git" in inside.parts:
            raise ToolError(f"{path} is not a path inside the workspace.")
        return str(inside)

    def _bytes(self, inside: str, path: str) -> bytes | None:
        try:
            with _folder_of(self._tree, inside) as (folder, name):
                descriptor = os.open(name, _READ, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ToolError(f"{path} could not be read: {error.strerror}.") from None
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ToolError(f"{path} is not a regular file.")
            if about.st_size > LARGEST:
                most = f"over {LARGEST // 2**20} MiB, the most that `edit` reads"
                raise ToolError(f"{path} has {about.st_size:,} bytes, {most}. Use `bash`.")
            with open(descriptor, "rb", closefd=False) as stream:
                return stream.read(LARGEST)
        finally:
            os.close(descriptor)

    def _put(self, inside: str, path: str, data: bytes) -> None:
        try:
            with disk_errors(self._tree / inside):  # of the host's disk, which is no agent's doing
                write_inside(self._tree, inside, data)
        except OSError as error:
            raise ToolError(f"{path} could not be written: {error.strerror}.") from None


def write_inside(tree: Path, path: str, data: bytes) -> None:
    """Write a file of the tree, following no link and making its folders. Raises OSError."""
    with (
        writable_inside(),
        _folder_of(tree, path, make=True) as (folder, name),
        os.fdopen(os.open(name, _WRITE, 0o666, dir_fd=folder), "wb") as stream,
    ):
        stream.write(data)


@contextmanager
def _folder_of(tree: Path, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The open folder of a file, reached through no link, and the file's name in it."""
    *parents, name = path.split("/")
    folder = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for parent in parents:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(parent, dir_fd=folder)
            inner = os.open(parent, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)
