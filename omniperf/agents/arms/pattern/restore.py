"""Putting a file's text back from the host, when the tools no longer work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK  # NONBLOCK: a FIFO must not hold us


def write_inside(tree: Path, path: str, text: str) -> None:
    """Write a file of the tree, following no link: code that ran in the sandbox may have planted one."""
    *parents, name = path.split("/")
    folder = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for parent in parents:
            inner = os.open(parent, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        with os.fdopen(os.open(name, _FILE, 0o644, dir_fd=folder), "wb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(folder)
