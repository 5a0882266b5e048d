"""An SDK's client as the providers use it: prepared bytes out, the events of the reply in as plain data.

The SDK keeps connections, authentication and the decoding of server-sent events. Its typed `create` methods walk the
whole history at every call, so the body goes through its raw `post`; its retries are off, since those of the loop obey
the attempt's budget.
"""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from threading import TIMEOUT_MAX, Timer
from typing import TYPE_CHECKING, Any

from omniperf.gateway.backoff import CONNECTING, SILENCE
from omniperf.gateway.failures import CallError, from_exception
from omniperf.gateway.tokens import Tokens
from omniperf.results.redact import clean, learn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ssl import SSLContext

    from omniperf.agents.providers.protocol import Item
    from omniperf.agents.providers.tape import Playback, Tape


@cache
def certificates() -> SSLContext:
    """Whom to believe that they are a server, as either SDK has it. To read them takes 25 ms, so forks share them."""
    import httpx2

    return httpx2.create_ssl_context()


@dataclass
class Wire:
    """A client of either SDK (they have one shape), its class of streams, and the class of its errors.

    Its key is a secret from then on. A `tape` writes down each exchange, or plays what was written with no server.
    """

    client: Any
    stream_class: Any
    error_class: type[Exception]
    tape: Tape | Playback | None = None

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
        except (self.error_class, httpx2.HTTPError, httpx2.StreamError) as error:
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
        with self.client.post(
            path, cast_to=object, content=body, stream=True, stream_cls=self.stream_class,
            options={"timeout": httpx2.Timeout(min(left, SILENCE), connect=min(left, CONNECTING))},
        ) as stream, _cut_at(deadline, stream.response):  # fmt: skip
            yield _events_of(stream)

    def _write(
        self, path: str, body: bytes, status: int, events: list[Item], began: float, tokens: Tokens | None,
        failure: CallError | None = None,
    ) -> None:  # fmt: skip
        if self.tape:
            self.tape.write(path, body, status, events, time.monotonic() - began, tokens, failure)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def _events_of(stream: Any) -> Iterator[Item]:
    """The events of a reply. Raises CallError for what is none: a page, as a wrong URL or a proxy answers with."""
    silent = True
    for event in stream:
        silent = False
        if isinstance(event, dict):
            yield event
    kind = stream.response.headers.get("content-type", "").partition(";")[0]
    if silent and kind not in ("", "text/event-stream"):
        raise CallError("protocol", clean(f"the server answered with {kind}, not with a stream of events"))


def _keeping(events: Iterator[Item], kept: list[Item]) -> Iterator[Item]:
    for event in events:
        kept.append(event)
        yield event


@contextmanager
def _cut_at(deadline: float, response: Any) -> Iterator[None]:
    """Shut the connection down at the deadline.

    Nothing else ends a reply of pings, which reset the timeout of a read and are no events. To close the socket would
    not do: that does not wake the thread that reads from it.
    """
    sock: socket.socket = response.extensions["network_stream"].get_extra_info("socket")

    def shut_down() -> None:
        with suppress(OSError):  # it is closed already
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's own, which is not for two threads

    watchdog = Timer(min(deadline - time.monotonic(), TIMEOUT_MAX), shut_down)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _late(tokens: Tokens | None = None) -> CallError:
    return CallError("network", "the reply took longer than there was time", retry=True, tokens=tokens)


def cut() -> CallError:
    """The stream ended before the reply did."""
    return CallError("network", "the stream of the reply ended in the middle", retry=True, tokens=Tokens())
