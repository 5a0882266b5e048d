"""The gateway's process. It takes its orders from the socket that is its standard input, and ends with it."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.errors import OmniPerfError
from omniperf.gateway.attempt import Attempt
from omniperf.gateway.http import converse
from omniperf.gateway.prices import load_prices
from omniperf.gateway.process import Upstream
from omniperf.gateway.proxy import Proxy, holds_token
from omniperf.gateway.recording import load_exchanges
from omniperf.results.redact import learn
from omniperf.tasks.schema import Limits

if TYPE_CHECKING:
    from omniperf.gateway.http import Reply, Request

MOST_CONNECTIONS = 64  # through one door at a time; each may hold a whole body
_FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Door:
    """One attempt's listening socket, and the connections through it."""

    def __init__(self, attempt: Attempt, proxy: Proxy) -> None:
        self.attempt, self._proxy = attempt, proxy
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()

    async def open(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=1 << 20)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            writer.write(_FULL)
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(asyncio.CancelledError):
                await converse(reader, writer, self._knows, self._answer)
        finally:
            self._open.discard(task)

    def _knows(self, request: Request) -> bool:
        return holds_token(request, self.attempt.token)

    async def _answer(self, request: Request, reply: Reply) -> None:
        await self._proxy.answer(self.attempt, request, reply)

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        if self._server is not None:
            self._server.close()
        for task in (tasks := list(self._open)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Control:
    """The orders of the harness, one line of JSON each; a socket comes with the line that admits an attempt."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders, self._rest = orders, b""
        self._passed: list[int] = []
        self._doors: dict[str, _Door] = {}

    async def run(self) -> None:
        """Obey until the harness is gone."""
        given = await self._next()
        if given is None:
            return
        upstreams = {name: Upstream(**each) for name, each in given["upstreams"].items()}
        for upstream in upstreams.values():
            learn(upstream.key)
        self._proxy = Proxy(upstreams, given["silence"], given["first_wait"])
        self._prices = load_prices(given["prices"])
        while (order := await self._next()) is not None:
            try:
                answer = await self._obey(order)
            except (OmniPerfError, OSError) as error:
                answer = {"error": str(error)}
            self._orders.sendall(json.dumps(answer).encode() + b"\n")
        for door in list(self._doors.values()):
            await door.close()

    async def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if token := order.get("admit"):
            learn(token)
            listener = socket.socket(fileno=self._passed.pop())
            listener.setblocking(False)
            replay = load_exchanges(Path(order["replay"])) if order["replay"] else None
            limits = Limits.model_validate(order["limits"])
            door = _Door(Attempt(token, limits, Path(order["folder"]), self._prices, replay), self._proxy)
            await door.open(listener)
            self._doors[token] = door
            return {}
        if token := order.get("close"):
            door = self._doors.pop(token)
            await door.close()
        else:
            door = self._doors[order["spent"]]
        return door.attempt.told()

    async def _next(self) -> dict[str, Any] | None:
        """The next order; None at the end."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._rest:
            ready = loop.create_future()
            loop.add_reader(self._orders, ready.set_result, None)
            try:
                await ready
            finally:
                loop.remove_reader(self._orders)
            data, descriptors, _, _ = socket.recv_fds(self._orders, 1 << 16, 1)
            self._passed += descriptors
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order


def main() -> None:
    """Serve until standard input ends."""
    orders = socket.socket(fileno=0)
    with suppress(KeyboardInterrupt, ConnectionError):
        asyncio.run(_Control(orders).run())


if __name__ == "__main__":
    main()
