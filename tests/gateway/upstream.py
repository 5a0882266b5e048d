"""A server on loopback that answers with bytes as they are scripted, and breaks off where it is told to."""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import dataclass
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from tests.agents import loopback

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAKERS = {"messages": loopback.messages, "responses": loopback.responses, "chat": loopback.chat}
PATHS = {"messages": "/v1/messages", "responses": "/v1/responses", "chat": "/v1/chat/completions"}
RESET = "reset"
Part = bytes | float | str  # bytes to send, seconds to wait, RESET
Step = tuple[Part, ...]


@dataclass(frozen=True)
class Got:
    """One request as it came: its head in lower case, its body, and when."""

    head: str
    body: bytes
    at: float


def head(status: int = 200, kind: str = "text/event-stream", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def events(api: str, say: loopback.Say) -> list[bytes]:
    """The server-sent events of a reply, a piece of bytes each."""
    made = MAKERS[api](say, say.model or "a-model-2026-11-01", 1)
    pieces = []
    for name, value in made:
        data = value if isinstance(value, str) else json.dumps(value)
        pieces.append(((f"event: {name}\n" if name else "") + f"data: {data}\n\n").encode())
    return pieces


def streamed(api: str, say: loopback.Say) -> Step:
    return (head(), *events(api, say))


def failing(status: int, code: str, message: str = "no", **headers: str) -> Step:
    error = {"type": "error", "error": {"type": code, "code": code, "message": message}}
    return (head(status, "application/json", **headers), json.dumps(error).encode())


class Upstream:
    """The server. Each request takes the next step of the script; one too many is answered 500."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.hung_up = 0  # clients that were gone before their reply was whole
        self._script: Iterator[Step] = iter(())
        self._lock = Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def play(self, *script: Step) -> None:
        self._play(script)

    def _play(self, script: Iterable[Step]) -> None:
        self._script, self.got, self.hung_up = iter(script), [], 0

    def bodies(self) -> list[Any]:
        return [json.loads(got.body) for got in self.got]

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := peer.recv(65536)):
                    return
                data += more
            first, _, body = data.partition(b"\r\n\r\n")
            text = first.decode().lower()
            length = int(text.partition("content-length:")[2].split("\r")[0] or 0)
            while len(body) < length:
                body += peer.recv(65536)
            with self._lock:
                self.got.append(Got(text, body, time.monotonic()))
                step = next(self._script, failing(500, "server_error", "the script has run out"))
            try:
                self._play_step(peer, step)
            except OSError:
                self.hung_up += 1

    def _play_step(self, peer: socket.socket, step: Step) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in step:
            if isinstance(part, bytes):
                peer.sendall(part)
            elif part == RESET:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            elif isinstance(part, float):
                peer.settimeout(part)
                try:
                    if not peer.recv(1):
                        raise ConnectionAbortedError
                except TimeoutError:
                    peer.settimeout(None)
