"""What a client's own stream shows, in the terms that all of them share."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from omniperf.agents.toolset import bounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from omniperf.gateway.tokens import Tokens

FailureKind: TypeAlias = Literal[
    "", "agent", "auth", "quota", "throttled", "network", "protocol", "context", "filtered", "turns"
]

UNREADABLE = 10**15
"""Tokens or turns that nobody had: no count is more."""

_STATUS = re.compile(r"\b(?:http|status|status code|code|\w*error):? ([45]\d\d)\b", re.I)


@dataclass(frozen=True)
class Said:
    """A text of the model's."""

    text: str


@dataclass(frozen=True)
class Called:
    """A tool call, seen as it begins. `command` is what a shell was given, "" of any other tool."""

    id: str
    tool: str
    command: str = ""
    input: Any = None


@dataclass(frozen=True)
class Answered:
    """What a tool call came to. `exit_code` is None where the client does not say one."""

    id: str
    output: str
    exit_code: int | None = None
    failed: bool = False


Seen: TypeAlias = Said | Called | Answered


def as_record(seen: Seen) -> tuple[str, dict[str, Any]]:
    """The line of a trajectory that it is: its kind and its fields."""
    match seen:
        case Said(said):
            return "said", {"text": said}
        case Called(id_, tool, command, given):
            return "call", {"id": id_, "tool": tool, "command": command, "input": given}
        case Answered(id_, output, code, failed):
            return "result", {"id": id_, "exit_code": code, "failed": failed, "output": bounded(output)}


@dataclass
class Report:
    """What a client says of its own work. It decides nothing that the gateway can count.

    `ended` is whether it said that it is done at all, `ok` that it ended well; otherwise `failure` and `said` tell why.
    `tokens` and `usd` are None where it names none, `version` is "".
    """

    ended: bool = False
    ok: bool = False
    failure: FailureKind = ""
    said: str = ""
    version: str = ""
    session: str = ""
    models: list[str] = field(default_factory=list)
    turns: int = 0
    tokens: Tokens | None = None
    usd: float | None = None
    denials: list[str] = field(default_factory=list)
    final: str = ""

    def fields(self) -> dict[str, Any]:
        """As plain data."""
        return {**self.__dict__, "tokens": self.tokens.__dict__ if self.tokens else None}

    def add_model(self, name: object) -> None:
        """Note a model that answered."""
        if isinstance(name, str) and name and (known := encodable(name)) not in self.models:
            self.models.append(known)


class Reader(Protocol):
    """Reads one client's stream. Whatever it cannot read it passes over: the stream is a stranger's."""

    report: Report

    def line(self, text: str) -> Iterable[Seen]:
        """Take in a line of standard output."""
        ...

    def document(self, value: Any) -> Iterable[Seen]:
        """Take in the whole of the file that is watched, which has changed."""
        ...


class JsonLines:
    """A reader of JSON, an object a line; anything else on standard output is for people."""

    def __init__(self) -> None:
        self.report = Report()

    def line(self, text: str) -> Iterator[Seen]:
        """Take in a line."""
        if not text.startswith("{"):
            return
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict):
            yield from self.event(event)

    def event(self, event: dict[str, Any]) -> Iterator[Seen]:
        """Take in an object."""
        raise NotImplementedError

    def document(self, value: Any) -> Iterator[Seen]:  # noqa: ARG002 - this kind of client writes none
        """Nothing is watched."""
        return iter(())


class Growing:
    """A reader of a file that the client writes anew after each step: only what was added is looked at."""

    def __init__(self) -> None:
        self.report = Report()
        self._seen: dict[str, int] = {}

    def line(self, text: str) -> Iterator[Seen]:  # noqa: ARG002 - for people
        """Standard output is for people."""
        return iter(())

    def document(self, value: Any) -> Iterator[Seen]:
        """Take in the file."""
        if isinstance(value, dict):
            yield from self.grown(value)

    def grown(self, value: dict[str, Any]) -> Iterator[Seen]:
        """Take in what was added."""
        raise NotImplementedError

    def added(self, value: dict[str, Any], name: str) -> list[Any]:
        """What a list of the file holds that it did not hold before."""
        found = listed(value, name)
        new = found[self._seen.get(name, 0) :]
        self._seen[name] = max(len(found), self._seen.get(name, 0))
        return new


def mapped(value: Any, *path: str) -> dict[str, Any]:
    """The mapping at a path of keys; an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def listed(value: Any, *path: str) -> list[Any]:
    """The list at a path of keys; an empty one where there is none."""
    *above, last = path
    found = mapped(value, *above).get(last)
    return found if isinstance(found, list) else []


def text(value: Any) -> str:
    """A value as text: of a list of content blocks, their texts."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return "\n".join(filter(None, (text(mapped(part).get("text", part)) for part in value)))
    return "" if value is None else json.dumps(value)


def encodable(text: str) -> str:
    """The text with ? for halves of surrogates: JSON can name them, UTF-8 has none."""
    return text.encode("utf-8", "replace").decode()


def number(value: Any) -> int:
    """A count, no more than UNREADABLE; 0 for what is none."""
    return min(value, UNREADABLE) if type(value) is int and value >= 0 else 0


def money(value: Any) -> float | None:
    """USD; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        usd = float(value)
    except OverflowError:
        return None
    return usd if math.isfinite(usd) and usd >= 0 else None


def tokens(used: dict[str, Any]) -> Tokens:
    """Tokens as Anthropic's API names them."""
    from omniperf.gateway.tokens import Tokens

    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    return Tokens(*(number(used.get(name)) for name in names))


def failure_of(status: Any, said: str) -> FailureKind:
    """What kind of failure a client's own words mean, which decides nothing. Not every number there is a status."""
    from omniperf.gateway.failures import from_report

    found = _STATUS.search(said)
    known = status if type(status) is int else int(found[1]) if found else None
    if known is None and not any(word in said.lower() for word in ("connect", "timed out", "timeout", "status")):
        return "agent"
    return from_report({"message": said}, status=known or 500).kind
