"""Patches on a terminal. Every character that could hide something is shown as its escape."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from omniperf.report.escape import visible
from omniperf.report.numbers import count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omniperf.results.schema import PatchInfo

# Each with its own text colour, since the terminal's may be dark.
_TINTS = {"+": "#e6e6e6 on #12321c", "-": "#e6e6e6 on #3b1719"}
_MARKS = {"+": "bold green on #12321c", "-": "bold red on #3b1719"}
_BAR = 30
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


@dataclass
class FileDiff:
    """One file's part of a patch: its headers, and its hunks, each with its `@@` line first."""

    path: str
    headers: list[str] = field(default_factory=list)
    hunks: list[list[str]] = field(default_factory=list)

    @property
    def added(self) -> int:
        """Lines that are new."""
        return sum(line.startswith("+") for hunk in self.hunks for line in hunk[1:])

    @property
    def removed(self) -> int:
        """Lines that are gone."""
        return sum(line.startswith("-") for hunk in self.hunks for line in hunk[1:])

    @property
    def binary(self) -> bool:
        """Whether the change has no lines to count."""
        return any(line.startswith(("GIT binary patch", "Binary files")) for line in self.headers)


def split(patch: bytes) -> list[FileDiff]:
    """Split a patch as git writes it into its files. Hunks end by their counts: their lines may look like headers."""
    files: list[FileDiff] = []
    left = {"-": 0, "+": 0}
    for line in visible(patch.decode("utf-8", "surrogateescape")).split("\n"):
        kind = line[:1]
        if files and files[-1].hunks and (left["-"] > 0 or left["+"] > 0 or kind == "\\"):
            files[-1].hunks[-1].append(line)
            for side in ("-", "+"):
                left[side] -= kind in (side, " ", "")
        elif line.startswith("diff --git "):
            files.append(FileDiff(_path_of(line), [line]))
        elif files and (found := _HUNK.match(line)):
            files[-1].hunks.append([line])
            left = {"-": int(found[1] or 1), "+": int(found[2] or 1)}
        elif files and line:
            files[-1].headers.append(line)
            if line.startswith("+++ ") and not line.startswith("+++ /dev/null"):
                files[-1].path = _unquoted(line[4:]).removeprefix("b/")
    return files


def coloured(patch: bytes) -> RenderableType:
    """Return the whole patch: its code highlighted in its own language, added and removed lines tinted."""
    parts: list[RenderableType] = []
    for file in split(patch):
        parts += [Text(line, "bold" if number == 0 else "dim") for number, line in enumerate(file.headers)]
        parts += [_hunk(hunk, file.path) for hunk in file.hunks]
    return Group(*parts)


def stat(patch: bytes, info: PatchInfo | None = None) -> RenderableType:
    """Return a line for each file with its counts; `info` adds which files are out of scope."""
    outside = {visible(file.path) for file in info.files if not file.in_scope} if info else set()
    files = split(patch)
    view = Table.grid(padding=(0, 1))
    view.add_column(overflow="fold")
    view.add_column(justify="right", no_wrap=True)
    view.add_column(no_wrap=True)
    view.add_column(no_wrap=True, style="bold red")
    most = max((file.added + file.removed for file in files), default=0)
    for file in files:
        scale = min(1.0, _BAR / most) if most else 1.0
        plus, minus = (-(-int(number * scale * 100) // 100) for number in (file.added, file.removed))
        bar = Text.assemble(("+" * plus, "green"), ("-" * minus, "red"))
        counted = Text("binary" if file.binary else f"+{file.added} -{file.removed}")
        view.add_row(Text(file.path), counted, bar, Text("out of scope" if file.path in outside else ""))
    added, removed = sum(file.added for file in files), sum(file.removed for file in files)
    return Group(view, Text(f"{count(len(files), 'file')}, +{added} -{removed} lines"))


def side_by_side(model: bytes, human: bytes) -> RenderableType:
    """Return two patches beside each other, file by file."""
    left, right = ({file.path: file for file in split(patch)} for patch in (model, human))
    parts: list[RenderableType] = []
    for path in sorted({*left, *right}):
        view = Table.grid(padding=(0, 1), expand=True)
        view.add_column(ratio=1, overflow="fold")
        view.add_column(ratio=1, overflow="fold")
        view.add_row(Text("this attempt", "bold"), Text("human", "bold"))
        view.add_row(*(_one_side(files.get(path)) for files in (left, right)))
        parts += [Rule(Text(path, "bold"), align="left", style="dim"), view]
    return Group(*parts)


def _one_side(file: FileDiff | None) -> RenderableType:
    if file is None:
        return Text("(not changed)", "dim")
    if not file.hunks:
        return Text("(binary)" if file.binary else "\n".join(file.headers[1:]), "dim")
    return Group(*(_hunk(hunk, file.path) for hunk in file.hunks))


def _hunk(lines: list[str], path: str) -> Text:
    """Highlight a hunk's code as one text, so that strings over several lines come out right, then tint its lines."""
    code = "\n".join(line[1:] for line in lines[1:])
    syntax = Syntax(code, Syntax.guess_lexer(path, code), theme="ansi_dark")
    shown = syntax.highlight(code).split("\n", allow_blank=True)
    view = Text(lines[0], "cyan")
    for line, highlighted in zip(lines[1:], shown, strict=False):
        mark = line[:1] or " "
        view.append("\n").append(mark, _MARKS.get(mark, "dim"))
        if mark in _TINTS:
            highlighted.stylize_before(_TINTS[mark])
        view.append_text(highlighted)
    return view


def _path_of(header: str) -> str:
    """Return the new path of a `diff --git a/X b/X` line, for files that have no `+++` line."""
    names = header.removeprefix("diff --git ")
    quoted = re.search(r' ("b/.*")$', names)
    if quoted:
        return _unquoted(quoted[1]).removeprefix("b/")
    middle = len(names) // 2  # without a rename the two names are equally long, and may hold blanks
    if names[middle : middle + 3] == " b/":
        return names[middle + 3 :]
    return names.rpartition(" b/")[2]


def _unquoted(name: str) -> str:
    name = name.rstrip("\t")
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name
