"""How a client's commands ask for tools: in turn, a few at once, and none once the attempt or the asker has ended."""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from omniperf.agents.external.channel import Channel
from omniperf.agents.external.find import Client
from omniperf.agents.providers.protocol import ToolResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from omniperf.agents.providers.protocol import ToolCall


class Slow:
    """A tool that works until it is let go."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def use(self, call: ToolCall) -> ToolResult:
        self.calls.append(call.name)
        self.begun.set()
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        return ToolResult("", "worked")


@pytest.fixture
def channel() -> Iterator[Channel]:
    with Channel(Client(("true",), "1.0", ())) as made:
        yield made


def ask(channel: Channel) -> socket.socket:
    asking = socket.socket(socket.AF_UNIX)
    asking.settimeout(20)
    folder = os.open(channel._folder, os.O_PATH)
    asking.connect(f"/proc/self/fd/{folder}/tools")
    os.close(folder)
    asking.sendall(b'{"tool": "test", "arguments": {}}\n')
    return asking


def told(asking: socket.socket) -> str:
    with asking, asking.makefile("rb") as answers:
        return str(json.loads(answers.readline())["text"])


def test_what_waits_when_the_attempt_ends_does_not_run(channel: Channel) -> None:
    slow = Slow()
    channel.serve(slow.use)
    asking = [ask(channel) for _ in range(12)]
    assert slow.begun.wait(20)
    assert channel.busy
    channel.stop()
    slow.go.set()
    channel.settle()
    answers = [told(one) for one in asking]
    assert sorted(answers) == ["the attempt has ended"] * 11 + ["worked"]
    assert slow.calls == ["test"]
    assert not channel.busy


def test_what_a_tool_raises_ends_those_that_wait(channel: Channel) -> None:
    slow = Slow()
    slow.error = ValueError("over")
    channel.serve(slow.use)
    asking = [ask(channel) for _ in range(3)]
    slow.go.set()
    assert sorted(told(one) for one in asking) == ["the attempt ends: over", *["the attempt has ended"] * 2]
    assert channel.error is slow.error
    assert slow.calls == ["test"]


def test_a_request_whose_asker_is_gone_does_not_run(channel: Channel) -> None:
    slow = Slow()
    channel.serve(slow.use)
    first = ask(channel)
    assert slow.begun.wait(20)
    for _ in range(5):
        ask(channel).close()
    last = ask(channel)
    slow.go.set()
    assert [told(first), told(last)] == ["worked", "worked"]
    assert slow.calls == ["test", "test"]


def test_so_many_requests_are_held_and_no_more(channel: Channel) -> None:
    slow = Slow()
    channel.serve(slow.use)
    before = threading.active_count()
    with ExitStack() as stack:
        asking = [stack.enter_context(ask(channel)) for _ in range(30)]
        assert slow.begun.wait(20)
        time.sleep(0.2)
        assert threading.active_count() - before <= 8
        slow.go.set()
        assert [told(one) for one in asking] == ["worked"] * 30


def test_the_sockets_are_the_users_alone_however_deep_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    slow = Slow()
    slow.go.set()
    with Channel(Client(("true",), "1.0", ())) as channel:
        (private,) = deep.iterdir()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        channel.serve(slow.use)
        assert told(ask(channel)) == "worked"
    assert list(deep.iterdir()) == []
