"""What attempts that were killed left on the host: their folders, and what seals remember of their worktrees."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from omniperf.workspace.worktree import remove_tree

if TYPE_CHECKING:
    from pathlib import Path


def clear(scratch: Path, cache: Path) -> None:
    """Delete a folder of worktrees, and the records of those worktrees. Raises OSError where that fails."""
    remove_tree(scratch)
    for record in cache.glob("seals/*/worktrees/*"):
        with suppress(OSError):
            if (record / "gitdir").read_text().startswith(f"{scratch.resolve()}/"):
                remove_tree(record)
