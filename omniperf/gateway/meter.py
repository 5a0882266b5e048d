"""What a reply says it used, read from its bytes while they pass: three APIs, streamed and whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from omniperf.gateway.failures import CallError, from_report, no_stream
from omniperf.gateway.tokens import BYTES_PER_TOKEN, Tokens, openai_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

Api: TypeAlias = Literal["messages", "responses", "chat"]

_ANTHROPIC = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
_TEXTS = ("text", "thinking", "partial_json", "signature", "content", "refusal", "reasoning_content", "arguments")


class Events:
    """Server-sent events out of a stream of bytes, however it is cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The events that are whole by now, as far as their data is a JSON object."""
        return (event for said in self.said(data) if (event := _parsed(said)) is not None)

    def said(self, data: bytes) -> Iterator[bytes]:
        """The data of the events that are whole by now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                said, self._data = b"\n".join(self._data), []
                yield said


class Meter:
    """What one reply used, and how it ended. `feed` takes its bytes; `end` says that there are no more."""

    def __init__(self, api: Api, *, streamed: bool) -> None:
        self.model = ""
        self.calls = 0  # tool calls that have begun
        self.error: CallError | None = None  # that the reply itself reports
        self._api, self._streamed = api, streamed
        self._events, self._body = Events(), bytearray()
        self._usage: dict[str, Any] = {}
        self._bytes = 0  # of text, thoughts and arguments
        self._finished = self._begun = False
        self._page = False  # in place of a reply
        self._ids: set[object] = set()  # of the calls of a chat

    def feed(self, data: bytes) -> None:
        """Take in bytes; what cannot be read is left alone."""
        if not self._streamed:
            self._body += data
            return
        for event in self._events.feed(data):
            self._begun = True
            try:
                self._take(event)
            except (TypeError, AttributeError, LookupError, ValueError):
                continue

    def end(self, content_type: str = "") -> None:
        """No more bytes come. Sets `error` where the reply is not whole, or a page, as wrong URLs and proxies have."""
        if not self._streamed and (body := _parsed(bytes(self._body))) is not None:
            self._take_whole(body)
        elif self._streamed and not self._begun and (error := no_stream(content_type)) is not None:
            # That may be a reply that was not streamed, and cost something.
            self._page = not content_type.lower().startswith("application/json")
            self.error = error
        if self.error is None and not self._finished:
            said = "the stream of the reply ended in the middle" if self._streamed else "the reply is no JSON object"
            self.error = CallError("network" if self._streamed else "protocol", said, retry=True)

    def tokens(self, sent: int) -> tuple[Tokens, bool]:
        """What the reply has used, and whether that is an estimate; `sent` stands for input that nobody counted.

        Where it broke off, the output is at least what had streamed.
        """
        if self._page:
            return Tokens(), False
        said = self._said()
        streamed = self._bytes // BYTES_PER_TOKEN
        if said is None:
            return Tokens(sent, output=streamed), True
        if self._finished or said.output >= streamed:
            return said, not self._finished
        return Tokens(said.input, said.cache_read, said.cache_write, streamed), True

    def _said(self) -> Tokens | None:
        if not self._usage:
            return None
        if self._api == "messages":
            return Tokens(*(_whole(self._usage.get(name)) for name in _ANTHROPIC))
        return openai_usage(self._usage, *_OPENAI[self._api])

    def _take(self, event: dict[str, Any]) -> None:
        if self._api == "messages":
            self._take_message(event)
        elif self._api == "responses":
            self._take_response(event)
        else:
            self._take_chunk(event)

    def _take_message(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "message_start":
                self.model = str(event["message"].get("model") or self.model)
                self._usage |= _object(event["message"].get("usage"))
            case "content_block_start":
                self.calls += event["content_block"].get("type") == "tool_use"
            case "content_block_delta":
                self._count(event["delta"])
            case "message_delta":
                self._usage |= {key: value for key, value in _object(event.get("usage")).items() if value is not None}
            case "message_stop":
                self._finished = True
            case "error":
                self.error = from_report(event.get("error"))

    def _take_response(self, event: dict[str, Any]) -> None:
        kind = str(event.get("type"))
        response = _object(event.get("response"))
        self.model = str(response.get("model") or self.model)
        self._usage |= _object(response.get("usage"))
        if kind == "response.output_item.done":
            self.calls += _is_call(event["item"])
        elif kind.endswith(".delta"):
            self._bytes += len(str(event.get("delta", "")).encode("utf-8", "replace"))
        elif kind in ("response.completed", "response.incomplete"):
            self._finished = True
        elif kind in ("response.failed", "error"):
            self.error = from_report(response.get("error") or event.get("error") or event)

    def _take_chunk(self, event: dict[str, Any]) -> None:
        self.model = str(event.get("model") or self.model)
        self._usage |= _object(event.get("usage"))
        if event.get("error"):
            self.error = from_report(event["error"])
        for choice in event.get("choices") or ():
            delta = _object(choice.get("delta"))
            self._count(delta)
            for part in delta.get("tool_calls") or ():
                self._count(_object(part.get("function")))
                if (id_ := part.get("id")) and id_ not in self._ids:
                    self._ids.add(id_)
                    self.calls += 1
            self._finished = self._finished or choice.get("finish_reason") is not None

    def _count(self, delta: dict[str, Any]) -> None:
        texts = (delta.get(name) for name in _TEXTS)
        self._bytes += sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str))

    def _take_whole(self, body: dict[str, Any]) -> None:
        """A reply that was not streamed."""
        self._finished = True
        self.model = str(body.get("model") or "")
        self._usage = _object(body.get("usage"))
        self._bytes = len(self._body)
        try:
            if self._api == "messages":
                self.calls = sum(block.get("type") == "tool_use" for block in body.get("content") or ())
            elif self._api == "responses":
                self.calls = sum(map(_is_call, body.get("output") or ()))
                if body.get("status") == "failed":
                    self.error = from_report(body.get("error"))
            else:
                choices = body.get("choices") or ()
                self.calls = sum(len(_object(choice.get("message")).get("tool_calls") or ()) for choice in choices)
        except (TypeError, AttributeError):
            self.error = CallError("protocol", "the reply is not as its API replies")


_OPENAI = {"responses": ("input_tokens", "output_tokens"), "chat": ("prompt_tokens", "completion_tokens")}


def _is_call(item: dict[str, Any]) -> bool:
    return str(item.get("type")).endswith("_call")


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
