"""The gateway's process: it serves every attempt that comes, and ends with its standard input."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.errors import OmniPerfError
from omniperf.gateway.http import converse
from omniperf.gateway.prices import load_prices
from omniperf.gateway.process import Upstream
from omniperf.gateway.proxy import Proxy, holds_token
from omniperf.gateway.recording import load_exchanges
from omniperf.gateway.shared import Shared
from omniperf.results.redact import forget, learn
from omniperf.tasks.schema import Limits

if TYPE_CHECKING:
    from omniperf.gateway.attempt import Attempt
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
        self.attempt.client.close()
        await self.attempt.recorded()


class _Orders:
    """One attempt's connection to the harness: it is admitted, asked what it has spent, and closed. A line each."""

    def __init__(self, connection: socket.socket, proxy: Proxy) -> None:
        self._connection, self._proxy = connection, proxy
        self._rest, self._passed = b"", list[int]()
        self._door: _Door | None = None

    async def run(self) -> None:
        """Obey until the harness, or the process of the attempt, is gone; nothing of the attempt is left then."""
        try:
            with suppress(ConnectionError):
                while (order := await self._next()) is not None:
                    try:
                        answer = await self._obey(order)
                    except OmniPerfError as error:
                        answer = {"error": error.message, "remedy": error.remedy}
                    await asyncio.get_running_loop().sock_sendall(self._connection, json.dumps(answer).encode() + b"\n")
        finally:
            for descriptor in self._passed:
                os.close(descriptor)
            self._connection.close()
            if self._door is not None:
                await self._door.close()
                forget(self._door.attempt.token)

    async def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if token := order.get("token"):
            upstreams = {name: Upstream(**each) for name, each in order["upstreams"].items()}
            for secret in (token, *(upstream.key for upstream in upstreams.values())):
                learn(secret)
            listener = socket.socket(fileno=self._passed.pop())
            listener.setblocking(False)
            replay = load_exchanges(Path(order["replay"])) if order["replay"] else None
            limits, folder = Limits.model_validate(order["limits"]), order["folder"] and Path(order["folder"])
            prices = load_prices(order["prices"])
            attempt = self._proxy.attempt(token, limits, upstreams, folder, prices, replay)
            self._door = _Door(attempt, self._proxy)
            await self._door.open(listener)
        assert self._door is not None
        if order.get("close"):
            await self._door.close()
        await self._door.attempt.recorded()
        return self._door.attempt.told()

    async def _next(self) -> dict[str, Any] | None:
        """The next order; None at the end."""
        while b"\n" not in self._rest:
            await _readable(self._connection)
            data, descriptors, _, _ = socket.recv_fds(self._connection, 1 << 16, 1)
            self._passed += descriptors
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order


async def _readable(what: socket.socket | int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(what, ready.set_result, None)
    try:
        await ready
    finally:
        loop.remove_reader(what)


async def _serve(way: socket.socket, proxy: Proxy) -> None:
    """Take in whoever comes, until standard input ends: the harness is gone then."""
    loop = asyncio.get_running_loop()
    attempts: set[asyncio.Task[None]] = set()

    def come() -> None:
        with suppress(BlockingIOError):
            _, descriptors, _, _ = socket.recv_fds(way, 16, 1)
            for descriptor in descriptors:
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                attempts.add(task := asyncio.ensure_future(_Orders(connection, proxy).run()))
                task.add_done_callback(attempts.discard)

    way.setblocking(False)
    loop.add_reader(way, come)
    await _readable(0)
    loop.remove_reader(way)
    for task in (left := list(attempts)):
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def main() -> None:
    """Serve until standard input ends: whom the first descriptor brings, with what the second one holds."""
    way, shared, silence, first_wait = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each attempt has several connections
    with suppress(KeyboardInterrupt):
        proxy = Proxy(Shared(int(shared)), float(silence), float(first_wait))
        sys.setswitchinterval(0.0005)  # the thread that writes what was exchanged holds up no stream for longer
        gc.freeze()  # what is there now stays: to look through it for cycles would hold up all streams
        asyncio.run(_serve(socket.socket(fileno=int(way)), proxy))


if __name__ == "__main__":
    main()
