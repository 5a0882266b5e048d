"""An SDK's client as the providers use it: prepared bytes out, the events of the reply in as plain data.

The SDK knows how to ask: authentication, headers, the URL, connections. Its typed `create` methods walk the whole
history at every call, so the body goes through its raw `post`; its retries are off, since those of the loop obey the
attempt's budget. To make a request and a stream of events takes it longer than to send and to read them, so it makes
the first request of a wire; the later ones are that one with another body.
"""

from __future__ import annotations

import json
import math
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from threading import TIMEOUT_MAX, Condition, Thread
from typing import TYPE_CHECKING, Any

from omniperf.gateway.backoff import CONNECTING, SILENCE
from omniperf.gateway.failures import CallError, from_exception, from_report, no_stream
from omniperf.gateway.meter import Events
from omniperf.gateway.recording import parsed
from omniperf.gateway.tokens import Tokens
from omniperf.results.redact import clean, learn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ssl import SSLContext

    from httpx2 import Client, Request, Response, Timeout

    from omniperf.agents.providers.protocol import Item
    from omniperf.agents.providers.tape import Playback, Tape

_OF_ONE_REQUEST = {"content-length", "cookie", "idempotency-key", "x-stainless-read-timeout"}  # headers
_LAST_BYTES = 0.25  # seconds that a reply may take to end which has said that it is done


@cache
def certificates() -> SSLContext:
    """Whom to believe that they are a server, as either SDK has it. To read them takes 25 ms, so forks share them."""
    import httpx2

    return httpx2.create_ssl_context()


@dataclass
class Wire:
    """A client of either SDK (they have one shape), what it sends through, its class of streams, that of its errors.

    Its key is a secret from then on. A `tape` writes down each exchange, or plays what was written with no server.
    """

    client: Any
    http: Client
    stream_class: Any
    error_class: type[Exception]
    tape: Tape | Playback | None = None
    _first: dict[str, Request] = field(default_factory=dict)
    _watchdog: _Watchdog | None = None

    def __post_init__(self) -> None:
        learn(self.client.api_key)

    def __del__(self) -> None:
        """As the clients that the SDKs make by themselves do."""
        self.client.close()

    @contextmanager
    def call(
        self, path: str, body: bytes, deadline: float, spent: Callable[[], Tokens | None]
    ) -> Iterator[Iterator[Item]]:
        """Send a body and hand out the events of its reply until `deadline`, a time of the monotonic clock.

        Whatever goes wrong in the block is raised as a CallError. `spent` says what the reply had cost by then; None
        where nothing of it had come.
        """
        import httpx2

        began, opened, status = time.monotonic(), False, 0
        kept: list[Item] = []
        try:
            with self._events(path, body, deadline) as events:
                opened = True
                yield _keeping(events, kept)
        except CallError as error:
            failure = error
        except (self.error_class, _RefusedError, httpx2.HTTPError, httpx2.StreamError) as error:
            failure = from_exception(error, Tokens() if opened else None)
            status = getattr(error, "status_code", 0)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            said = f"the reply is not as {path} replies ({type(error).__name__}: {error})"
            failure = CallError("protocol", clean(said))
        else:
            self._write(path, body, 200, kept, began, spent())
            return
        if failure.kind == "network" and time.monotonic() >= deadline:
            failure = _late(failure.tokens)
        failure.tokens = spent() or failure.tokens
        self._write(path, body, 200 if opened else status, kept, began, failure.tokens, failure)
        raise failure from None

    @contextmanager
    def _events(self, path: str, body: bytes, deadline: float) -> Iterator[Iterator[Item]]:
        """Send the body; the events of the reply."""
        import httpx2

        if self.tape and (played := self.tape.play(path, body)) is not None:
            yield played
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise _late()
        timeout = httpx2.Timeout(min(left, SILENCE), connect=min(left, CONNECTING))
        with self._posted(path, body, timeout) as response, self._watched(response, deadline) as watchdog:
            yield _decoded(response, watchdog)

    @contextmanager
    def _posted(self, path: str, body: bytes, timeout: Timeout) -> Iterator[Response]:
        """The response to a body, whose status is that of a reply."""
        import httpx2

        if (first := self._first.get(path)) is None:
            with self.client.post(
                path, cast_to=object, content=body, stream=True, stream_cls=self.stream_class,
                options={"timeout": timeout},
            ) as stream:  # fmt: skip
                if not stream.response.history:  # nobody sent it elsewhere
                    self._first[path] = stream.response.request
                yield stream.response
            return
        headers = [(name, value) for name, value in first.headers.multi_items() if name not in _OF_ONE_REQUEST]
        request = httpx2.Request(
            "POST", first.url, headers=headers, cookies=self.http.cookies, content=body,
            extensions={"timeout": timeout.as_dict()},
        )  # fmt: skip
        response = self.http.send(request, stream=True)
        try:
            if not response.is_success:
                response.read()
                raise _RefusedError(response)
            yield response
        finally:
            response.close()

    @contextmanager
    def _watched(self, response: Response, deadline: float) -> Iterator[_Watchdog]:
        """Shut the connection down at the deadline: pings reset the timeout of a read, and are no events."""
        self._watchdog = watchdog = self._watchdog or _Watchdog()
        watchdog.watch(response.extensions["network_stream"].get_extra_info("socket"), deadline)
        try:
            yield watchdog
        finally:
            watchdog.rest()

    def _write(
        self, path: str, body: bytes, status: int, events: list[Item], began: float, tokens: Tokens | None,
        failure: CallError | None = None,
    ) -> None:  # fmt: skip
        if self.tape:
            self.tape.write(path, body, status, events, time.monotonic() - began, tokens, failure)

    def close(self) -> None:
        """Close the connections."""
        if self._watchdog is not None:
            self._watchdog.end()
            self._watchdog = None
        self.client.close()


def _keeping(events: Iterator[Item], kept: list[Item]) -> Iterator[Item]:
    for event in events:
        kept.append(event)
        yield event


def _decoded(response: Response, watchdog: _Watchdog) -> Iterator[Item]:
    """The events of a response. One that is done is read to its end, if near: its connection serves the next call.

    Raises CallError for an event that is an error, and for a page, as a wrong URL or a proxy answers with; ValueError
    for what is no JSON.
    """
    import httpx2

    events, silent, done = Events(), True, False
    try:
        for data in response.iter_bytes():
            for said in events.said(data):
                silent = False
                if said.startswith(b"[DONE]"):
                    done = True
                    watchdog.bite_in(_LAST_BYTES)
                elif not done and isinstance(event := json.loads(said), dict) and event.get("type") != "ping":
                    if error := event.get("error"):
                        raise from_report(error, headers=response.headers)
                    yield event
    except httpx2.HTTPError:
        if not done:
            raise
    if silent and (error := no_stream(response.headers.get("content-type", ""))) is not None:
        raise error


class _RefusedError(Exception):
    """A response whose status is none of a reply, with what `from_exception` reads of an SDK's error."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"Error code: {response.status_code} - {response.text}")
        self.response, self.status_code, self.body = response, response.status_code, parsed(response.content)


class _Watchdog:
    """A thread that shuts a connection down at a deadline, for one call after another.

    To close the socket would not do: that does not wake the thread that reads from it.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._socket: socket.socket | None = None
        self._deadline = math.inf
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def watch(self, sock: socket.socket, deadline: float) -> None:
        """Begin with a call; the deadline is a time of the monotonic clock."""
        with self._changed:
            self._socket, sooner, self._deadline = sock, deadline < self._deadline, deadline
            if sooner:
                self._changed.notify()

    def bite_in(self, seconds: float) -> None:
        """Let the call have no more than so long from now."""
        with self._changed:
            if (deadline := time.monotonic() + seconds) < self._deadline:
                self._deadline = deadline
                self._changed.notify()

    def rest(self) -> None:
        """The call is over."""
        with self._changed:
            self._socket = None

    def end(self) -> None:
        """There will be no other call."""
        with self._changed:
            self._deadline = -math.inf
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while self._deadline > -math.inf:
                left = self._deadline - time.monotonic()
                if left > 0:
                    self._changed.wait(min(left, TIMEOUT_MAX))
                    continue
                if self._socket is not None:
                    with suppress(OSError):  # it is closed already
                        socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not SSLSocket's own: of one thread
                self._socket, self._deadline = None, math.inf


def _late(tokens: Tokens | None = None) -> CallError:
    return CallError("network", "the reply took longer than there was time", retry=True, tokens=tokens)


def cut() -> CallError:
    """The stream ended before the reply did."""
    return CallError("network", "the stream of the reply ended in the middle", retry=True, tokens=Tokens())
