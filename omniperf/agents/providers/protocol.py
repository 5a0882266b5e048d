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

    from omniperf.gateway.tokens import Tokens

Item: TypeAlias = dict[str, Any]
Stop: TypeAlias = Literal["end", "length", "refusal"]

_DEEPEST = 64  # levels of arguments; APIs refuse to parse what is nested far deeper


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the model is told of it; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


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
        self._bytes = bytearray(_serialised(head)[:-1] + b',"' + growing.encode() + b'":[')
        self._empty = True

    def __len__(self) -> int:
        """The size so far, in bytes."""
        return len(self._bytes)

    def add(self, items: Iterable[Item]) -> None:
        """Append items."""
        for item in items:
            if not self._empty:
                self._bytes += b","
            self._bytes += _serialised(item)
            self._empty = False

    def request(self, tail: Item) -> bytes:
        """The whole body: one copy of what is there, and the fields of `tail`."""
        return b"".join((self._bytes, b"],", _serialised(tail)[1:]))


class Provider(Protocol):
    """A model behind an API. One attempt, one provider, one conversation at a time."""

    name: str
    model: str

    def begin(self, system: str, tools: Sequence[ToolSpec]) -> Conversation:
        """An empty conversation with these instructions and tools."""
        ...

    def say(self, text: str) -> Item:
        """What the user says."""
        ...

    def answer(self, results: Sequence[ToolResult]) -> list[Item]:
        """The results of all calls of one reply."""
        ...

    def send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        """Make one call, without retries, that may take that many seconds. Raises CallError."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def _serialised(item: Item) -> bytes:
    """Compact JSON. Half of a surrogate pair, which no API takes, becomes a question mark."""
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
