"""How requests reach a server: through one connection, each like the first, and what ends a reply that does not end."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from omniperf.agents.providers.openai_chat import OpenAIChat
from omniperf.gateway.failures import CallError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-a-key-of-no-server-0001"
DELTA = {"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}]}
REPLY = f"data: {json.dumps(DELTA)}\n\ndata: [DONE]\n\n".encode()
HEAD = b"HTTP/1.1 %d -\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Server:
    """Answers each request with the next of `answers`, and keeps the connection; `heads` are those it was sent."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.heads: list[dict[str, str]] = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(ConnectionError), connection, connection.makefile("rb") as lines:  # whoever asked may be gone
            while lines.readline():
                head = {}
                while line := lines.readline().strip().decode():
                    name, _, value = line.partition(":")
                    head[name.lower()] = value.strip()
                lines.read(int(head["content-length"]))
                self.heads.append(head)
                connection.sendall(self.answers.pop(0))

    def close(self) -> None:
        self._socket.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def provider(server: Server) -> Iterator[OpenAIChat]:
    made = OpenAIChat("a-model", KEY, server.url)
    yield made
    made.close()


def ask(provider: OpenAIChat, text: str = "Ready?") -> str:
    talk = provider.begin("Answer.", ())
    talk.add([provider.say(text)])
    return provider.send(talk, 16, 60).text


def test_a_chat_has_one_connection_and_each_request_is_like_the_first(server: Server, provider: OpenAIChat) -> None:
    server.answers = [HEAD % 200 + chunk(REPLY) + END] * 3
    assert [ask(provider, "x" * size) for size in (1, 500, 20)] == ["Yes."] * 3
    assert server.connections == 1
    sizes = [int(head.pop("content-length")) for head in server.heads]
    assert sizes[1] - sizes[0] == 499
    for head in server.heads:
        head.pop("x-stainless-read-timeout", "")
        assert head["authorization"] == f"Bearer {KEY}"
    assert server.heads[0] == server.heads[1] == server.heads[2]


def test_a_later_request_that_is_refused_says_why(server: Server, provider: OpenAIChat) -> None:
    why = json.dumps({"error": {"code": "rate_limit_exceeded", "message": "slowly"}}).encode()
    refused = b"HTTP/1.1 429 -\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n%s" % (len(why), why)
    server.answers = [HEAD % 200 + chunk(REPLY) + END, refused, HEAD % 200 + chunk(REPLY) + END]
    ask(provider)
    with pytest.raises(CallError) as raised:
        ask(provider)
    assert (raised.value.kind, raised.value.retry, raised.value.after) == ("throttled", True, 7.0)
    assert str(raised.value) == "429: slowly"
    assert ask(provider) == "Yes."
    assert server.connections == 1


def test_a_reply_that_is_done_and_does_not_end_is_whole(server: Server, provider: OpenAIChat) -> None:
    server.answers = [HEAD % 200 + chunk(REPLY), HEAD % 200 + chunk(REPLY) + END]
    assert ask(provider) == "Yes."
    assert ask(provider) == "Yes."
    assert server.connections == 2


def test_a_reply_that_is_not_done_ends_at_its_deadline(server: Server, provider: OpenAIChat) -> None:
    server.answers = [HEAD % 200 + chunk(REPLY[:-8])]
    talk = provider.begin("Answer.", ())
    talk.add([provider.say("Ready?")])
    with pytest.raises(CallError, match="longer than there was time"):
        provider.send(talk, 16, 0.5)
