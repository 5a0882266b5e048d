"""HTTP/1.1 as the gateway serves it: request after request, bodies bounded, clients that hang up noticed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import h11

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

LARGEST_BODY = 64 * 1024 * 1024  # bytes
_PIECE = 256 * 1024
Headers: TypeAlias = "Iterable[tuple[bytes, bytes]]"


@dataclass(frozen=True)
class Request:
    """A whole request; the names of headers are in lower case."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> str:
        """The first header of that name; "" where there is none."""
        return next((value.decode("latin-1") for found, value in self.headers if found == name), "")


class Reply:
    """The reply to one request, sent as it comes."""

    def __init__(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        self._connection, self._writer = connection, writer
        self.begun = False

    async def begin(self, status: int, headers: Headers, data: bytes = b"") -> None:
        """Send the head, and the first part of the body. Without a content-length, the body is sent in chunks."""
        self.begun = True
        await self._write(h11.Response(status_code=status, headers=list(headers)), h11.Data(data=data))

    async def send(self, data: bytes) -> None:
        """Send a part of the body, at once."""
        await self._write(h11.Data(data=data))

    async def end(self) -> None:
        """Say that the body is whole."""
        await self._write(h11.EndOfMessage())

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a reply in one go."""
        await self.begin(status, [*headers, (b"content-length", b"%d" % len(body))], body)
        await self.end()

    async def _write(self, *events: h11.Event) -> None:
        if data := b"".join(self._connection.send(event) or b"" for event in events):
            self._writer.write(data)
            await self._writer.drain()


async def converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    knows: Callable[[Request], bool],
    answer: Callable[[Request, Reply], Awaitable[None]],
) -> None:
    """Answer the requests of one connection. An answer that ends before its reply does breaks the connection.

    A client that hangs up cancels its answer. `knows` is asked as soon as the head is there, of a request without a
    body: of one that it does not know the body is read and not kept, and `answer` gets none.
    """
    connection = h11.Connection(h11.SERVER)
    try:
        while (request := await _request(reader, writer, connection, knows)) is not None:
            answering = asyncio.ensure_future(answer(request, Reply(connection, writer)))
            await _watched(reader, connection, answering)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                break
            connection.start_next_cycle()
    except (ConnectionError, h11.LocalProtocolError):
        pass
    except h11.RemoteProtocolError as error:
        await _refuse(connection, writer, error.error_status_hint)
    finally:
        if connection.our_state in (h11.SEND_BODY, h11.ERROR):
            writer.transport.abort()  # a reply that is not whole must not look like one
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _watched(reader: asyncio.StreamReader, connection: h11.Connection, answering: asyncio.Future[None]) -> None:
    """Wait for an answer; end it where the client hangs up before."""
    more = asyncio.ensure_future(reader.read(_PIECE))
    both: tuple[asyncio.Future[Any], ...] = (more, answering)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if more.done():
            data = more.result()
            if not data and not answering.done():
                raise ConnectionAbortedError("the client hung up")
            connection.receive_data(data)
        await answering
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)  # to await each would mistake our own cancellation for its


async def _request(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connection: h11.Connection,
    knows: Callable[[Request], bool],
) -> Request | None:
    """The next request of a connection; None where there is no more."""
    request: Request | None = None
    known, size = False, 0
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                writer.write(connection.send(go_on) or b"")
            connection.receive_data(await reader.read(_PIECE))
        elif isinstance(event, h11.Request):
            headers = tuple(event.headers)
            request = Request(event.method.decode(), event.target.decode("latin-1"), headers, b"")
            known = knows(request)
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if known:
                body += event.data
            if size > LARGEST_BODY:
                raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return replace(request, body=bytes(body))
        else:  # closed, or paused after what the last request left open
            return None


async def _refuse(connection: h11.Connection, writer: asyncio.StreamWriter, status: int) -> None:
    if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        with suppress(ConnectionError, h11.LocalProtocolError):
            await Reply(connection, writer).begin(status, headers)
            writer.write(connection.send(h11.EndOfMessage()) or b"")
