"""What a model provider is: it turns a conversation into the bytes of one call, and the stream of its reply into data.

An `Item` is one message in the provider's own form (a dictionary as its API takes it). Nothing but the provider looks
inside; the loop appends what it is given.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from omniperf.agents.providers.wire import Wire
    from omniperf.gateway.tokens import Tokens

Item: TypeAlias = dict[str, Any]
Stop: TypeAlias = Literal["end", "length", "refusal"]

_DEEPEST = 64  # levels of arguments; APIs refuse to parse what is nested far deeper


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the model is told of it; `parameters` is the JSON schema of its arguments.

    `native` is what stands for it in a request where the provider itself has told its models of the tool.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    native: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ToolCall:
    """A tool call as the model wrote it: `arguments` is meant to be a JSON object, and may be anything."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolResult:
    """What the model is told a call came to."""

    id: str
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Reply:
    """A whole reply. `items` is what the conversation keeps of it; `model` is the one that says it answered.

    `tokens` is None where the server did not say.
    """

    items: tuple[Item, ...]
    text: str
    calls: tuple[ToolCall, ...]
    stop: Stop
    tokens: Tokens | None
    model: str


def as_object(arguments: str) -> Item | None:
    """The arguments of a call where they are an object that any parser of JSON takes; Python's takes more."""
    try:
        found = json.loads(arguments, parse_constant=_number, parse_float=_number, parse_int=_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _is_shallow(found, _DEEPEST) else None


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value if set(text) & set(".eE") else int(text)


def _is_shallow(value: object, levels: int) -> bool:
    inner = list(value.values()) if isinstance(value, dict) else value
    return not isinstance(inner, list) or (levels > 0 and all(_is_shallow(each, levels - 1) for each in inner))


class Conversation:
    """An append-only list of items, kept as the bytes that are sent: each is serialised once, when it is added."""

    def __init__(self, head: Item, growing: str) -> None:
        """Start a request body: the fields of `head`, then the list `growing`, still open."""
        self._bytes = bytearray(serialised(head)[:-1] + b',"' + growing.encode() + b'":[')
        self._empty = True
        self._said: tuple[int, ...] = ()  # where the first and the last two items of the user end

    def __len__(self) -> int:
        """The size so far, in bytes."""
        return len(self._bytes)

    def add(self, items: Iterable[Item]) -> None:
        """Append items."""
        for item in items:
            if not self._empty:
                self._bytes += b","
            self._bytes += serialised(item)
            self._empty = False
            if item.get("role") == "user":
                self._said = (*self._said[:1], *self._said[1:][-1:], len(self._bytes))

    def request(self, tail: Item, mark: bytes = b"") -> bytes:
        """The whole body: one copy of what is there, and the fields of `tail`.

        `mark` goes into the last block of the first and of the last two items of the user, whose content is a list of
        blocks; what is kept stays without it.
        """
        view, at = memoryview(self._bytes), 0
        parts: list[bytes | memoryview] = []
        for end in self._said if mark else ():
            inside = end - len(b"}]}")
            parts += [view[at:inside], mark]
            at = inside
        return b"".join((*parts, view[at:], b"],", serialised(tail)[1:]))


class Provider(Protocol):
    """A model behind an API. One attempt, one provider, one conversation at a time."""

    name: str
    model: str
    wire: Wire
    ids: set[str]  # of all calls so far; a reply's own that is among them gets another

    def begin(self, system: str, tools: Sequence[ToolSpec], key: str = "") -> Conversation:
        """An empty conversation with these instructions and tools. Requests of one `key` share a cache."""
        ...

    def say(self, text: str) -> Item:
        """What the user says."""
        ...

    def answer(self, results: Sequence[ToolResult]) -> list[Item]:
        """The results of all calls of one reply."""
        ...

    def results(self, items: Iterable[Item]) -> list[ToolResult]:
        """The results that `answer` made these items of; none of what was said."""
        ...

    def calls(self, items: Iterable[Item]) -> list[ToolCall]:
        """The calls in the items of a reply; arguments that were no JSON may have become `{}`."""
        ...

    def send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        """Make one call, without retries, that may take that many seconds. Raises CallError."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def unique(id_: str, ids: set[str]) -> str:
    """The id of a call, or another where it was given before: a server may number its calls anew in every reply."""
    found, number = id_, 1
    while not found or found in ids:
        number += 1
        found = f"{id_ or 'call'}_{number}"
    ids.add(found)
    return found


def serialised(item: Item) -> bytes:
    """Compact JSON. Half of a surrogate pair, which no API takes, becomes a question mark."""
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
