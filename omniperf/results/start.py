"""What an attempt of a chain begins with: the best patch before it, and what the attempts before it came to."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.results.schema import Start, Tried
from omniperf.results.store import load_record, read_lines, read_plain

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.schema import Result

_FILES, _CHANGE, _SUMMARY = 5, 800, 500  # names, characters, characters that are told of one attempt


def read_start(folder: Path) -> Start | None:
    """From where the attempt of that folder begins; None for one that stands alone. Raises OmniPerfError."""
    file = folder / "start.json"
    return load_record(file, Start) if file.exists() else None


def parent_patch(folder: Path, label: str, start: Start) -> bytes:
    """The patch that the attempt of that folder begins with. Raises OmniPerfError where it is not what it was."""
    file = folder.parent / f"{label}.{start.parent}" / "model_patch.diff"
    try:
        data = read_plain(file)
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != start.patch_sha256:
        raise OmniPerfError(f"{file} is not the patch that was measured.", "Restore it, or start a new sweep.")
    return data


def tried(result: Result, folder: Path) -> Tried:
    """What an attempt came to, for those after it: nothing of the harness, nor of how it compares with the human patch.

    Measured figures, names and lines of its own patch, and its own words.
    """
    patch, estimate = result.patch, result.verdict.speedup
    about = Tried(
        n=result.identity.n,
        verdict=result.verdict.class_,
        speedup=estimate.speedup if estimate else None,
        at_least=estimate.claim.low if estimate else None,
        summary=_said(folder)[:_SUMMARY],
    )
    if patch is None:
        return about
    own = {"patch_sha256": patch.sha256, "added": patch.added, "removed": patch.removed}
    files = tuple(file.path for file in patch.files[:_FILES])
    return about.model_copy(update={**own, "files": files, "change": _changed(folder / "model_patch.diff")})


def _said(folder: Path) -> str:
    """What the agent said when it finished, else of its last commit."""
    said: dict[str, str] = {}
    with suppress(OmniPerfError):  # a line was changed by hand
        for line in read_lines(folder / "journal.jsonl"):
            said[line["kind"]] = str(line.get("summary") or line.get("message") or "")
    return said.get("finish") or said.get("commit") or ""


def _changed(diff: Path) -> str:
    """The beginning of the lines that a diff takes away and adds."""
    try:
        text = read_plain(diff).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in text.split("\n") if line[:1] in ("+", "-") and line[:4] not in ("+++ ", "--- ")]
    whole = "\n".join(lines)
    return whole if len(whole) <= _CHANGE else whole[:_CHANGE] + " ..."
