"""The gateway as a client: an attempt's calls to its servers, whose responses are handed on as they come."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import h11

from omniperf.gateway.backoff import CONNECTING
from omniperf.gateway.failures import CallError, from_exception
from omniperf.gateway.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from omniperf.gateway.http import Headers
    from omniperf.gateway.route import Place, Route

_IDLE = 8  # connections to one server that are kept for the next call
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
# On the way to a server; the second and third are those of a host and a port that cannot be.
_FAILURES = (OSError, UnicodeError, OverflowError, h11.ProtocolError, zlib.error)


class Client:
    """The connections of one attempt."""

    def __init__(self, trusted: ssl.SSLContext, silence: float) -> None:
        self._trusted, self._silence = trusted, silence
        self._idle: dict[Route, list[Wire]] = {}

    async def ask(
        self, route: Route, method: str, target: str, headers: Headers, body: bytes, sent: Callable[[], None]
    ) -> Response:
        """Make a call; its response, as soon as the head is there. `sent` is called once all of the request is sent.

        Raises CallError.
        """
        own = [(b"host", route.authority), *route.headers]
        own += [(b"content-length", b"%d" % len(body))] if body else []
        whole = route.prefix + target.encode("latin-1")
        wire: Wire | None = None
        try:
            request = h11.Request(method=method, target=whole, headers=[*own, *headers])
            wire = self._kept(route) or await self._connected(route)
            if await wire.send(request, h11.Data(data=body), h11.EndOfMessage()):
                sent()
            return Response(await wire.head(), wire, self._idle.setdefault(route, []))
        except BaseException as error:
            if wire is not None:
                wire.abort()
            if isinstance(error, _FAILURES):
                raise from_exception(error) from None
            raise

    def close(self) -> None:
        """Close the connections that no call is using."""
        for wires in self._idle.values():
            while wires:
                wires.pop().abort()

    def _kept(self, route: Route) -> Wire | None:
        wires = self._idle.get(route, [])
        while wires:
            if (wire := wires.pop()).fresh:
                return wire
            wire.abort()
        return None

    async def _connected(self, route: Route) -> Wire:
        place = route.proxy or route.server
        async with _within(CONNECTING):
            _, wire = await asyncio.get_running_loop().create_connection(
                lambda: Wire(self._silence), place.host, place.port, happy_eyeballs_delay=0.25,
                ssl=self._trusted if place.secure else None,
            )  # fmt: skip
        if route.tunnel is not None:
            try:
                await self._tunnel(wire, route.tunnel, route.server)
            except BaseException:
                wire.abort()
                raise
        return wire

    async def _tunnel(self, wire: Wire, connect: h11.Request, server: Place) -> None:
        """Ask a proxy for the way to the server, with whom TLS is spoken then: the proxy sees nothing of a call."""
        await wire.send(connect, h11.EndOfMessage())
        head = await wire.head()
        if not 200 <= head.status_code < 300:
            raise CallError("network", f"the proxy answered {head.status_code}", retry=True)
        async with _within(CONNECTING):
            await wire.secure(self._trusted, server.host)


class Response:
    """A server's response, whose head is there; the names of headers are in lower case."""

    def __init__(self, head: h11.Response, wire: Wire, idle: list[Wire]) -> None:
        self.status, self.headers = head.status_code, tuple(head.headers)
        self._wire: Wire | None = wire
        self._idle = idle
        self._decoder = _decoder(self.told().get("content-encoding", "identity").strip().lower())

    def told(self) -> dict[str, str]:
        """The headers as text; of those that are there twice, the last."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}

    async def read(self) -> bytes:
        """What comes next of the body, as soon as it is there; b"" where that was all. Raises CallError."""
        try:
            while self._wire is not None:
                event = await self._wire.event()
                if not isinstance(event, h11.Data):
                    self._leave()
                elif data := bytes(event.data) if self._decoder is None else self._decoder.decompress(event.data):
                    return data
        except _FAILURES as error:
            raise from_exception(error) from None
        return b""

    def _leave(self) -> None:
        """Keep the connection for the next call, where that can be."""
        assert self._wire is not None
        if len(self._idle) < _IDLE and self._wire.keep():
            self._idle.append(self._wire)
        else:
            self._wire.abort()
        self._wire = None

    def close(self) -> None:
        """Give up what has not been read, and the connection with it."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None


def _decoder(coding: str) -> zlib._Decompress | None:
    """What undoes the coding of a body, which a server may use though it was asked not to."""
    if coding in ("", "identity"):
        return None
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise CallError("protocol", f"the server answered in the coding {coding!r}, which it was asked not to")
    return zlib.decompressobj(_GZIP_OR_ZLIB)


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimeoutError(f"no connection within {seconds:g} s") from None
