"""What a prompt gives away of the human solution. Pure functions over texts; whoever calls resolves them.

A part that had nothing to compare says `not checked`, never `clean`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omniperf.prompt.foreign import foreign_lines
from omniperf.results.schema import PromptCheck, PromptPart
from omniperf.tasks.globs import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_SHINGLE = 8  # tokens
_TELLING = 3  # words: a line with fewer (`else:`, `return x`) stands in any program
_SUBJECT, _SENTENCE = 3, 5  # words: what is shorter may be said by chance
_QUOTING = " \t>"  # what may stand before a quoted line

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{7,40}(?![0-9a-f])", re.IGNORECASE)
_LABELS = re.compile(r"^(\s*\[[^\]]*\])*\s*(\w+(\([^)]*\))?!?:)?|\(#\d+\)\s*$")  # [Kernel] perf(moe): ... (#12)
_PULL_REQUEST = r"(?:#|\bpull/|\bpull request\s*|\bPR\s*){}\b"
_ROW = re.compile(r"\s*(\S.*?)\s+\|\s+(\d+)\s*[-+]*\s*")
_TOTAL = re.compile(r"(\d+) files? changed(?:, (\d+) insertions?\(\+\))?(?:, (\d+) deletions?\(-\))?")


@dataclass(frozen=True)
class Reference:
    """What is known of the human solution; None is not known.

    `base` gives the text that the agent has before it anyway, and is called only where the prompt shares something with
    the patch. `example` is a diff that the prompt may show, of files that `targets` may name.
    """

    patch: bytes | None = None
    base: Callable[[], str] = lambda: ""
    message: str | None = None
    statistics: str | None = None
    sha: str | None = None
    example: str | None = None
    targets: tuple[str, ...] = ()
    own_names: frozenset[str] = frozenset()
    other_names: Mapping[str, frozenset[str]] = field(default_factory=dict)


def check_prompt(prompt: str, reference: Reference) -> PromptCheck:
    """Compare a prompt with all that is known of the human solution, and look for text of other repositories."""
    parts = [
        _patch_lines(prompt, reference),
        _patch_shingles(prompt, reference),
        _message(prompt, reference.message),
        _statistics(prompt, reference.statistics),
        _sha(prompt, reference.sha),
    ]
    if reference.example is not None:
        parts.append(_example(prompt, reference.example, reference.targets))
    solution = [part.status for part in parts]
    parts.append(_foreign(prompt, reference))
    if "leaks" in solution:
        return PromptCheck(status="leaks", parts=tuple(parts))
    if parts[-1].status == "foreign":
        return PromptCheck(status="foreign", parts=tuple(parts))
    return PromptCheck(status="clean" if "clean" in solution else "not checked", parts=tuple(parts))


def _patch_lines(prompt: str, reference: Reference) -> PromptPart:
    """Lines of the patch: any with its sign; without it, those added that base does not have."""
    name = "patch lines"
    if reference.patch is None:
        return _unchecked(name, "no human patch can be resolved")
    telling = [
        (sign, text)
        for sign, run in _runs(reference.patch.decode("utf-8", "replace"))
        for text in map(_folded, run)
        if len(re.findall(r"[^\W\d]\w*", text)) >= _TELLING
    ]
    if not telling:
        return _unchecked(name, f"the human patch has no line of {_TELLING} words or more")
    signed: dict[tuple[str, str], int] = {}
    plain: dict[str, int] = {}
    for number, line in enumerate(prompt.split("\n"), 1):
        text = line.lstrip(_QUOTING)
        signed.setdefault((text[:1], _folded(text[1:])), number)
        plain.setdefault(_folded(text), number)
    found = [(signed[entry], *entry) for entry in telling if entry in signed]
    bare = [(plain[text], "", text) for sign, text in telling if sign == "+" and text in plain]
    if bare:
        in_base = set(map(_folded, reference.base().split("\n")))
        found += [entry for entry in bare if entry[2] not in in_base]
    lines = sorted(set(found))
    return _part(name, f"{len(telling)} telling lines", (f"line {at}: {sign}{text}" for at, sign, text in lines))


def _patch_shingles(prompt: str, reference: Reference) -> PromptPart:
    """Sequences of eight tokens that the patch adds and base does not have."""
    name = f"patch {_SHINGLE}-grams"
    if reference.patch is None:
        return _unchecked(name, "no human patch can be resolved")
    added = ["\n".join(run) for sign, run in _runs(reference.patch.decode("utf-8", "replace")) if sign == "+"]
    total = {gram for text in added for gram in _grams(text)}
    if not total:
        return _unchecked(name, f"the human patch adds no {_SHINGLE} tokens in a row")
    # A diff in a prompt has a sign before every line, which is no token of the code.
    shared = total & {*_grams(prompt), *_grams(re.sub(rf"^[{_QUOTING}]*[-+]", "", prompt, flags=re.MULTILINE))}
    if shared:
        shared -= set(_grams(reference.base()))
    return _part(
        name, f"{len(total)} sequences of {_SHINGLE} tokens", (span for text in added for span in _spans(text, shared))
    )


def _message(prompt: str, message: str | None) -> PromptPart:
    name = "commit message"
    if message is None:
        return _unchecked(name, "no message of a human commit is known")
    subject, *body = message.strip().split("\n")
    pull_request = re.search(r"\(#(\d{2,})\)\s*$", subject)
    phrases = [(line, _words(line)) for line in body if len(_words(line)) >= _SENTENCE]
    bare = _LABELS.sub("", subject)
    if len(_words(bare)) >= _SUBJECT:
        phrases.insert(0, (bare, _words(bare)))
    if not phrases and not pull_request:
        return _unchecked(name, f"the message is too short to tell: {_folded(subject)!r}")
    said = [(word, number) for number, line in enumerate(prompt.split("\n"), 1) for word in _words(line)]
    evidence = [f"line {at}: {_folded(line)}" for line, phrase in phrases if (at := _position(said, phrase))]
    if pull_request and (found := re.search(_PULL_REQUEST.format(pull_request[1]), prompt, re.IGNORECASE)):
        evidence.append(f"line {_line_at(prompt, found.start())}: the pull request #{pull_request[1]}")
    return _part(name, "subject, sentences and pull request", evidence)


def _statistics(prompt: str, statistics: str | None) -> PromptPart:
    """Rows and totals of `git diff --stat`, at whatever width."""
    name = "statistics"
    if statistics is None:
        return _unchecked(name, "no statistics of a human commit are known")
    rows = [(row[1], row[2]) for line in statistics.split("\n") if (row := _ROW.fullmatch(line))]
    totals = {total.groups() for total in _TOTAL.finditer(statistics)}
    if not rows and not totals:
        return _unchecked(name, "the statistics have no row and no total")
    evidence = []
    for number, line in enumerate(prompt.split("\n"), 1):
        row, total = _ROW.fullmatch(line), _TOTAL.search(line)
        same_row = row and any(row[2] == count and _same_path(row[1], path) for path, count in rows)
        if same_row or (total and total.groups() in totals):
            evidence.append(f"line {number}: {_folded(line)}")
    return _part(name, f"{len(rows)} rows, {len(totals)} totals", evidence)


def _sha(prompt: str, sha: str | None) -> PromptPart:
    name = "commit sha"
    if not sha:
        return _unchecked(name, "no sha of a human commit is known")
    evidence = [
        f"line {number}: {found} in {_folded(line)}"
        for number, line in enumerate(prompt.split("\n"), 1)
        for found in _HEX.findall(line)
        if sha.startswith(found.lower()) or found.lower().startswith(sha)
    ]
    return _part(name, f"{sha[:12]} and its abbreviations", evidence)


def _example(prompt: str, example: str, targets: tuple[str, ...]) -> PromptPart:
    """A diff shown as an example is no example where it changes the targets themselves."""
    shown = {line for line in prompt.split("\n") if line.startswith("diff --git ")}
    evidence = [
        f"line {_line_at(prompt, prompt.index(line))}: the example changes the target {path}"
        for line in example.split("\n")
        if line in shown and matches(path := line.rpartition(" b/")[2], targets)
    ]
    return _part("example diff", "its files and the targets", evidence)


def _foreign(prompt: str, reference: Reference) -> PromptPart:
    name = "other repositories"
    if not reference.other_names:
        return _unchecked(name, "no other repository is known")
    found = foreign_lines(prompt, reference.own_names, reference.other_names)
    part = _part(name, f"names of {len(reference.other_names)} known to other tasks", found)
    return part.model_copy(update={"status": "foreign"}) if found else part


def _part(name: str, compared: str, evidence: Iterable[str]) -> PromptPart:
    found = tuple(dict.fromkeys(evidence))
    if not found:
        return PromptPart(name=name, status="clean", detail=f"compared: {compared}")
    return PromptPart(name=name, status="leaks", detail=f"{len(found)} found; compared: {compared}", evidence=found)


def _unchecked(name: str, why: str) -> PromptPart:
    return PromptPart(name=name, status="not checked", detail=why)


def _runs(patch: str) -> Iterator[tuple[str, list[str]]]:
    """Every run of lines with one sign, without it. Hunks end by their counts: their lines may look like headers."""
    left = {"-": 0, "+": 0}
    sign, run = "", list[str]()
    for line in patch.split("\n"):
        inside, kind = any(left.values()), line[:1]
        if inside and kind != "\\":
            for side in ("-", "+"):
                left[side] = max(0, left[side] - (kind in (side, " ", "")))
        elif found := _HUNK.match(line):
            left = {"-": int(found[1] or 1), "+": int(found[2] or 1)}
        now = kind if inside and kind in left else ""
        if now != sign:
            if sign:
                yield sign, run
            sign, run = now, []
        if now:
            run.append(line[1:])
    if sign:
        yield sign, run


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    tokens = _TOKEN.findall(text)
    return zip(*(tokens[start:] for start in range(_SHINGLE)), strict=False)


def _spans(text: str, grams: set[tuple[str, ...]]) -> Iterator[str]:
    """The stretches of a text that these sequences cover, each folded into a line."""
    tokens = list(_TOKEN.finditer(text))
    start = end = -1
    for at in range(len(tokens) - _SHINGLE + 1):
        if tuple(token[0] for token in tokens[at : at + _SHINGLE]) not in grams:
            continue
        if at > end:
            if end >= 0:
                yield _folded(text[tokens[start].start() : tokens[end].end()])
            start = at
        end = at + _SHINGLE - 1
    if end >= 0:
        yield _folded(text[tokens[start].start() : tokens[end].end()])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _position(said: list[tuple[str, int]], phrase: list[str]) -> int | None:
    """The line on which a phrase begins, or None."""
    for at in range(len(said) - len(phrase) + 1):
        if all(said[at + number][0] == word for number, word in enumerate(phrase)):
            return said[at][1]
    return None


def _same_path(one: str, other: str) -> bool:
    """Whether two paths may be one; git shortens long ones to `.../tail`."""
    tails = (one.removeprefix("..."), other.removeprefix("..."))
    return tails[0].endswith(tails[1]) or tails[1].endswith(tails[0])


def _folded(line: str) -> str:
    return " ".join(line.split())


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
