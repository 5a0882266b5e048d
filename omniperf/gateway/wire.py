"""One connection to a model's server, in HTTP/1.1: what has come through it is parsed when somebody asks for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import h11

from omniperf.gateway.failures import CallError

if TYPE_CHECKING:
    import ssl

IDLE_SECONDS = 5.0  # for which a connection is kept for the next call
_LONGEST_HEAD = 100 * 1024  # bytes
_READ_AHEAD = 256 * 1024  # bytes that nobody has asked for yet


class Wire(asyncio.Protocol):
    """The connection, for a call at a time. A server that says nothing for `silence` seconds counts as dead."""

    def __init__(self, silence: float) -> None:
        self._loop, self._silence = asyncio.get_running_loop(), silence
        self._http = _spoken()
        self._transport: Any = None
        self._error: Exception | None = None  # that ended it
        self._ended = False
        self._watch: asyncio.TimerHandle | None = None  # who sees to it that waiting for more ends
        self._asked = 0.0  # when that began
        self._ahead, self._kept = 0, 0.0
        self._reading: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None

    async def send(self, *events: h11.Event) -> bool:
        """Send a request; whether all of it went. Where it did not, the server may have answered all the same."""
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        if self._writing is not None:
            async with asyncio.timeout(self._silence):
                await self._writing
        return not self._ended

    async def head(self) -> h11.Response:
        """The head of the response."""
        while not isinstance(event := await self.event(), h11.Response):
            pass  # 100 and the like
        return event

    async def event(self) -> h11.Event:
        """What comes next of a response that has not ended.

        Raises CallError where the server is silent, OSError and h11.ProtocolError.
        """
        while not isinstance(event := self._http.next_event(), h11.Event):
            await self._more()
        return event

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._catch_up()
        self._reading, self._asked = self._loop.create_future(), self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self._silence, self._look)
        try:
            await self._reading
        finally:
            self._reading = None

    def _look(self) -> None:
        """End a wait that has lasted too long. One timer looks after many waits, nearly all of which are short."""
        self._watch = None
        if self._reading is None or self._reading.done():
            return
        if self._asked + self._silence <= self._loop.time():
            # Not to be tried again: it has cost the whole of its limit.
            self._reading.set_exception(CallError("network", f"the server was silent for {self._silence:g} s"))
        else:
            self._watch = self._loop.call_at(self._asked + self._silence, self._look)

    async def secure(self, trusted: ssl.SSLContext, host: str) -> None:
        """Go on in TLS, with a server behind the one that was spoken to before."""
        self._http = _spoken()
        self._transport = await self._loop.start_tls(self._transport, self, trusted, server_hostname=host)

    def keep(self) -> bool:
        """Make ready for another call; whether there can be one: both sides are done, and nothing came after that."""
        if self._ended or self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            return False
        if self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self._catch_up()
        self._kept = self._loop.time()
        return True

    @property
    def fresh(self) -> bool:
        """Whether one that was kept is as it was then. What a server says unasked would be taken for an answer."""
        return not self._ended and not self._ahead and self._loop.time() - self._kept < IDLE_SECONDS

    def abort(self) -> None:
        """Close it, whatever is under way."""
        self._transport.abort()

    def _catch_up(self) -> None:
        if self._ahead > _READ_AHEAD:
            self._transport.resume_reading()
        self._ahead = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio, as what follows: there is a connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        self._http.receive_data(data)
        before, self._ahead = self._ahead, self._ahead + len(data)
        if before <= _READ_AHEAD < self._ahead:
            self._transport.pause_reading()
        _wake(self._reading)

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more comes."""
        self._ended = True
        if error is None and self._http.their_state is h11.SEND_RESPONSE:
            error = ConnectionResetError("the server closed the connection without an answer")
        self._error = error
        if error is None:
            self._http.receive_data(b"")
        _wake(self._reading)
        self.resume_writing()
        if self._watch is not None:
            self._watch.cancel()

    def pause_writing(self) -> None:
        """The server does not take what is sent as fast as it is."""
        self._writing = self._loop.create_future()

    def resume_writing(self) -> None:
        """It has taken it."""
        _wake(self._writing)
        self._writing = None


def _spoken() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
