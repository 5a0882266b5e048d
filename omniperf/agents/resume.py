"""Where an attempt of a built-in agent had come to when its process ended, and how to be there again.

The trajectory holds it: every item of the conversation once, what each call was charged, what changed in the tree. A
step is complete when its reply is written, or when the next request is, which holds the results of its calls. Calls
whose results were not yet in a request are done again, on the tree as it was before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omniperf.agents.snapshots import FOLDER, restore
from omniperf.results.store import read_lines

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.agents.tools import SessionTools
    from omniperf.workspace.worktree import Workspace

_COMPLETE = ("request", "reply", "failed")


@dataclass(frozen=True)
class ResumePoint:
    """The records of a trajectory up to its last complete step, and the attempt's folder.

    `waits`: the last reply's calls have no results yet.
    """

    folder: Path
    records: tuple[dict[str, Any], ...]
    waits: bool


def resume_point(folder: Path) -> ResumePoint | None:
    """Find where the attempt in that folder can go on; None where it has to start anew. A torn last line is no line.

    Raises OmniPerfError where the trajectory was changed by hand.
    """
    records: list[dict[str, Any]] = []
    for record in read_lines(folder / "trajectory.jsonl"):
        if record["kind"] == "resumed":  # what lay beyond that point was done again
            del records[record["records"] :]
        else:
            records.append(record)
    lost = next((at for at, record in enumerate(records) if record["kind"] == "tree" and not record["changed"]), None)
    kept = records[:lost]
    while kept and kept[-1]["kind"] not in _COMPLETE:
        kept.pop()
    return ResumePoint(folder, tuple(kept), kept[-1]["kind"] == "reply") if kept else None


def restore_work(point: ResumePoint, workspace: Workspace, tools: SessionTools) -> None:
    """Make a fresh workspace, its commits and what is known of its states, what they were at that point.

    Commits are made again from the trees that they were made of, with other dates; those that the agent made without
    the tool `commit` are not, nor what it left in ignored caches, nor what `edit undo` could take back. Raises
    OmniPerfError where a snapshot is missing or damaged.
    """
    at = 0.0  # when the calls before the record were made
    for record in point.records:
        match record["kind"]:
            case "request":
                at = record["seconds"]
            case "reply":
                at += record["seconds"]
            case "tree":
                restore(workspace.tree, record["changed"], point.folder / FOLDER)
                tools.note_edit(at)
            case "done":
                tools.again(record, at)
