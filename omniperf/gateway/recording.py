"""`exchanges.jsonl`: every exchange of an attempt with its model, one line each, and what can be served from it again.

A request is kept as what is new in it: the fields that differ from an earlier exchange of the same conversation
(`after`), and of its growing list of messages those beyond the first `same`. So the file grows with the conversation,
not with its square.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from omniperf.errors import UsageError
from omniperf.results.redact import clean
from omniperf.results.store import append_line, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

EXCHANGES = "exchanges.jsonl"
_GROWING = ("messages", "input")
_REMEMBERED = 8  # conversations that go on at the same time

# What differs between two runs of one client and says nothing: ids, dates, times and how long something took.
_VOLATILE = tuple(
    (re.compile(shape, re.IGNORECASE), left)
    for shape, left in (
        (r"(?<![0-9a-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-z])", "<id>"),  # also after msg_
        (r"\b[0-9a-f]{7,64}\b", "<id>"),
        (r"\bChunk ID: [0-9a-f]{6}\b", "<id>"),  # Codex's, of a command's output
        (r"\bProcess running with session ID \d+", "<id>"),
        (r'"session_id":\s*\d+', "<id>"),
        (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:Z|\s?[+-]\d\d:?\d\d)?", "<time>"),
        (r"\b\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\b", "<time>"),
        (r'"duration_seconds":\s*[\d.]+', "<seconds>"),
        (r"\b\d+(?:\.\d+)?\s?(?:ns|us|µs|ms|s|secs?|seconds?|min|minutes?)\b", "<seconds>"),
    )
)
_STILL_RUNS = re.compile(r"Process running with session ID (\d+)")  # Codex's random number of a command
_GOES_ON = re.compile(rb'(\\"session_id\\":\s*)(\d+)')  # with it, in the text of a call's arguments
_IDS = {"metadata", "prompt_cache_key", "client_metadata"}  # fields of a request that hold nothing but ids


@dataclass(frozen=True)
class Exchange:
    """One recorded exchange: `request` is the body as a whole; `reply` its bytes as they came."""

    n: int
    path: str
    request: object
    status: int
    headers: tuple[tuple[str, str], ...]
    reply: bytes
    line: Mapping[str, Any]


class Recorder:
    """Writes the exchanges of one attempt."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / EXCHANGES
        self._last: dict[int, dict[str, Any]] = {}  # the bodies of the latest exchanges, by their n

    def write(
        self, n: int, path: str, body: bytes, status: int, headers: Mapping[str, str], reply: bytes, **more: object
    ) -> None:
        """Append one exchange. Raises InfraError (disk)."""
        request: object = parsed(body)
        fields: dict[str, object] = {"n": n, "path": path, "sha256": hashlib.sha256(body).hexdigest()}
        if isinstance(request, dict):
            fields |= self._new(request)
            self._last[n] = request
            while len(self._last) > _REMEMBERED:
                del self._last[min(self._last)]
        else:
            fields["request"] = request
        told = {"status": status, "headers": dict(headers), "reply": reply.decode("utf-8", "surrogateescape")}
        append_line(self._path, {**fields, **told, **more})

    def _new(self, request: dict[str, Any]) -> dict[str, object]:
        """The request as what it adds to the one that it has most in common with."""
        growing = next((name for name in _GROWING if isinstance(request.get(name), list)), "")
        same, after = max(((_common(request, last, growing), n) for n, last in self._last.items()), default=(0, 0))
        if not growing or not same:
            return {"request": request}
        last = self._last[after]
        changed = {
            name: value for name, value in request.items()
            if name != growing and (name not in last or last[name] != value)
        }  # fmt: skip
        dropped = [name for name in last if name not in request]
        new = {"list": growing, "same": same, "new": request[growing][same:]}
        if last.get(growing) is not None:
            del self._last[after]
        return {"after": after, "changed": changed, "dropped": dropped, **new}


def _common(request: Mapping[str, Any], last: Mapping[str, Any], growing: str) -> int:
    ours, theirs = request.get(growing) or [], last.get(growing) or []
    pairs = zip(ours, theirs, strict=False) if isinstance(theirs, list) else ()
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(ours), len(theirs)))


def parsed(body: bytes) -> Any:
    """A body as JSON; as text where it is none."""
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def load_exchanges(file: Path) -> list[Exchange]:
    """Read a recording, in the order in which its requests came. Raises UsageError where it is none."""
    exchanges: dict[int, Exchange] = {}
    bodies: dict[int, Any] = {}
    try:
        for line in read_lines(file):  # in the order in which they ended
            n, request = int(line["n"]), line.get("request")
            if "after" in line:
                before, growing = bodies[line["after"]], line["list"]
                request = {name: value for name, value in before.items() if name not in line["dropped"]}
                request |= line["changed"] | {growing: before[growing][: line["same"]] + line["new"]}
            bodies[n] = request
            reply = str(line["reply"]).encode("utf-8", "surrogateescape")
            headers = tuple((str(name), str(value)) for name, value in line["headers"].items())
            exchanges[n] = Exchange(n, str(line["path"]), request, int(line["status"]), headers, reply, line)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{file} is no recording of exchanges ({type(error).__name__}: {error}).", "Name an attempt's folder."
        ) from None
    if not exchanges:
        raise UsageError(f"{file} holds no exchange.", "Name the folder of an attempt whose agent asked a model.")
    return [exchanges[n] for n in sorted(exchanges)]


def difference(recorded: object, seen: object) -> str:
    """Where two requests differ once ids and times are set aside: JSON pointer, recorded and seen; "" nowhere."""
    for pointer, one, other in _differences(recorded, seen, ""):
        return f"{pointer or '/'}: recorded {_shown(one)}, seen {_shown(other)}"
    return ""


def same(recorded: str, seen: str) -> bool:
    """Whether two texts are the same once ids and times are set aside."""
    return recorded == seen or _plain(recorded) == _plain(seen)


def for_its_commands(reply: bytes, recorded: object, seen: object) -> bytes:
    """A recorded reply to two requests that are the same, with the numbers that running commands have in the latter."""
    then, now = (_STILL_RUNS.findall(json.dumps(request)) for request in (recorded, seen))
    numbers: dict[bytes, bytes] = {was.encode(): is_.encode() for was, is_ in zip(then, now, strict=False)}
    return _GOES_ON.sub(lambda found: b"".join((found[1], numbers.get(found[2], found[2]))), reply)


def _differences(one: object, other: object, pointer: str) -> Iterator[tuple[str, object, object]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in [*one, *(name for name in other if name not in one)]:
            if pointer or name not in _IDS:
                at = f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"
                yield from _differences(one.get(name), other.get(name), at)
    elif isinstance(one, list) and isinstance(other, list):
        for index, (ours, theirs) in enumerate(zip_longest(one, other)):
            yield from _differences(ours, theirs, f"{pointer}/{index}")
    elif isinstance(one, str) and isinstance(other, str):
        if not same(one, other):
            yield pointer, one, other
    elif one != other or isinstance(one, bool) != isinstance(other, bool):
        yield pointer, one, other


def _plain(text: str) -> str:
    text = clean(text)
    for shape, left in _VOLATILE:
        text = shape.sub(left, text)
    return text


def _shown(value: object) -> str:
    text = clean(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 200 else f"{text[:200]}..."
