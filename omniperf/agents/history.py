"""A conversation as turns: what is sent, and what is left out of it when it grows longer than the model takes.

Only whole turns go, and results keep their place when their text goes: no call is ever without its result. What is
left out goes oldest first and in few large steps, so that between two cuts each request begins with the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from omniperf.agents.providers.protocol import serialised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from omniperf.agents.providers.protocol import Item, Provider, ToolResult, ToolSpec

RECENT = 3  # turns that stay whole as long as anything older can go
_ELIDED = 400  # characters: a shorter output is not worth a note
_LAST = 2000  # characters of an output that stay where all that is left is too long
_DIGEST = 8000  # characters
_LINE = 160  # characters of a call, and of what came of it, in the digest
_KEPT = ("benchmark", "commit", "test")  # calls whose lines go last


@dataclass
class Turn:
    """A reply, and all that was said after it."""

    reply: tuple[Item, ...]
    said: list[Item] = field(default_factory=list)


@dataclass(frozen=True)
class Cut:
    """What a cut left out, and the bytes of the conversation then."""

    elided: int
    folded: int
    bytes: int


class History:
    """One conversation with a provider. `talk` is what is sent; `turns` are those of which anything is left."""

    def __init__(self, provider: Provider, system: str, tools: Sequence[ToolSpec], key: str) -> None:
        self._provider, self._head = provider, (system, tools, key)
        self._prompt: list[Item] = []
        self._folded: list[tuple[bool, str]] = []  # whether a line of the digest goes last, and the line
        self._left_out = 0  # turns
        self.turns: list[Turn] = []
        self.talk = provider.begin(*self._head)

    def say(self, items: Iterable[Item]) -> None:
        """Append what the user says; before the first reply it is the prompt."""
        items = list(items)
        (self.turns[-1].said if self.turns else self._prompt).extend(items)
        self.talk.add(items)

    def reply(self, items: tuple[Item, ...]) -> None:
        """Append a reply."""
        self.turns.append(Turn(items))
        self.talk.add(items)

    def cut(self, size: int) -> Cut | None:
        """Make the conversation no larger than `size` bytes, as far as that goes; None where nothing could go.

        First the texts of old results go, then whole old turns, of which a digest stays; then the same with the recent
        ones but the last, of whose results the head and the tail stay. The prompt is never touched.
        """
        elided, left_out = 0, self._left_out
        total, digest = len(self.talk), min(_DIGEST, size // 4)
        limit = size - digest if self._left_out else size
        for recent in (RECENT, 1):
            for turn in self.turns[:-recent]:
                if total <= limit:
                    break
                if freed := self._elide(turn, _note):
                    total, elided = total - freed, elided + 1
            while total > limit and len(self.turns) > recent:
                total, limit = total - self._fold(self.turns.pop(0)), size - digest
        if total > limit and self.turns and self._elide(self.turns[-1], _ends):
            elided += 1
        if not elided and self._left_out == left_out:
            return None
        self.talk = self._provider.begin(*self._head)
        self.talk.add(self._prompt)
        if self._left_out:
            self.talk.add([self._provider.say(self._digest(digest))])
        for turn in self.turns:
            self.talk.add(turn.reply)
            self.talk.add(turn.said)
        return Cut(elided, self._left_out - left_out, len(self.talk))

    def _elide(self, turn: Turn, shorter: Callable[[str], str]) -> int:
        """Shorten the results of a turn; the bytes that it frees."""
        results = self._provider.results(turn.said)
        short = [replace(result, text=shorter(result.text)) for result in results]
        if short == results:
            return 0
        before = _size(turn.said)
        turn.said = self._provider.answer(short)
        return before - _size(turn.said)

    def _fold(self, turn: Turn) -> int:
        """Turn a turn that goes into lines of the digest; the bytes that it frees."""
        results = {result.id: result for result in self._provider.results(turn.said)}
        for call in self._provider.calls(turn.reply):
            came = _line(_last_line(results[call.id])) if call.id in results else ""
            self._folded.append((call.name in _KEPT, f"- {call.name} {_line(call.arguments)}: {came}"))
        self._left_out += 1
        return _size(turn.reply) + _size(turn.said)

    def _digest(self, size: int) -> str:
        """What is known of the turns that are gone: their calls, oldest first, those that judged the work longest."""
        total = sum(len(line) + 1 for _, line in self._folded)
        for last in (False, True):
            for at, (kept, line) in enumerate(self._folded):
                if total <= size:
                    break
                if line and kept is last:
                    self._folded[at] = kept, ""
                    total -= len(line) + 1
        self._folded = [row for row in self._folded if row[1]]
        lines = "\n".join(line for _, line in self._folded)
        return (
            f"[{self._left_out} earlier replies of yours were left out to make room. All that you changed is in the "
            f"checkout. These calls were among them, with the end of what they returned:]\n{lines}"
        )


def _size(items: Iterable[Item]) -> int:
    return sum(len(serialised(item)) + 1 for item in items)


def _note(text: str) -> str:
    """What stands for an old output: how long it was, and its last line, where exit codes are."""
    if len(text) <= _ELIDED:
        return text
    last = text.rstrip().rpartition("\n")[2]
    return f"[{len(text):,} characters left out to make room]\n{last[-_LINE:]}"


def _ends(text: str) -> str:
    half = _LAST // 2
    gone = len(text) - _LAST
    return text if gone <= _ELIDED else f"{text[:half]}\n[{gone:,} characters left out to make room]\n{text[-half:]}"


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LINE else f"{text[: _LINE - 3]}..."


def _last_line(result: ToolResult) -> str:
    """The line that says what came of a call: the first of what judges the work, the last of what ran."""
    lines = [line for line in result.text.splitlines() if not line.startswith("[left: ")] or [""]
    return lines[0] if lines[0].startswith(("Screening", "passed", "FAILED", "committed")) else lines[-1]
