"""The exchanges of a built-in agent, written as the gateway writes those of the others, and played again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from omniperf.gateway.failures import CallError
from omniperf.gateway.meter import Events
from omniperf.gateway.recording import EXCHANGES, Recorder, difference, load_exchanges, parsed
from omniperf.gateway.tokens import Tokens
from omniperf.results.store import read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from omniperf.agents.providers.protocol import Item


class DivergedError(Exception):
    """A replay is not what was recorded; the text says where."""


class Tape:
    """Writes exchanges into an attempt's folder, after those that are there."""

    def __init__(self, folder: Path) -> None:
        self._recorder = Recorder(folder)
        self._n = sum(1 for _ in read_lines(folder / EXCHANGES))

    def play(self, path: str, body: bytes) -> Iterator[Item] | None:  # noqa: ARG002 - a playback's
        """Nothing: it records."""
        return None

    def write(
        self, path: str, body: bytes, status: int, events: list[Item], seconds: float, tokens: Tokens | None,
        failure: CallError | None,
    ) -> None:  # fmt: skip
        """Append one exchange; its events as the SDK decoded them."""
        self._n += 1
        told: dict[str, object] = {"seconds": round(seconds, 3), "tokens": tokens and tokens.__dict__}
        told |= {"error": str(failure or ""), "whole": failure is None}
        if failure is not None:
            told["failure"] = {"kind": failure.kind, "retry": failure.retry, "after": failure.after}
        path = path if path.startswith("/v1/") else f"/v1{path}"
        kind = {"content-type": "text/event-stream"} if events else {}
        self._recorder.write(self._n, path, body, status, kind, "".join(map(_written, events)).encode(), **told)


class Playback:
    """Plays the exchanges of an attempt, each for the request that it answered."""

    def __init__(self, folder: Path, passed: Callable[[str], None] = lambda _: None) -> None:
        """`passed` is told of each request."""
        self.exchanges = load_exchanges(folder / EXCHANGES)
        self.passed = passed
        self._n = 0

    @property
    def left(self) -> int:
        """The exchanges that were not asked for yet; below 0 where more was asked than there is."""
        return len(self.exchanges) - self._n

    def play(self, path: str, body: bytes) -> Iterator[Item] | None:  # noqa: ARG002 - an API has one
        """The events of the next reply. Raises DivergedError, and the CallError that the exchange came to."""
        self._n += 1
        self.passed("request")
        if self._n > len(self.exchanges):
            raise DivergedError(f"exchange {self._n}: the recording has {len(self.exchanges)} alone")
        was = self.exchanges[self._n - 1]
        if apart := difference(was.request, parsed(body)):
            raise DivergedError(f"exchange {self._n} differs from the recorded one at {apart}")
        failed = was.line.get("failure")
        error, tokens = None, was.line.get("tokens")
        if failed:
            error = CallError(
                failed["kind"], was.line["error"], retry=failed["retry"], after=failed["after"],
                tokens=Tokens(**tokens) if tokens else None,
            )  # fmt: skip
            if was.status != 200:
                raise error
        return _played(was.reply, error)

    def write(self, *_: object) -> None:
        """Nothing: it was written before."""


def _written(event: Item) -> str:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n"


def _played(reply: bytes, error: CallError | None) -> Iterator[Item]:
    yield from Events().feed(reply)
    if error is not None:
        raise error
