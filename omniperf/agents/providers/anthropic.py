"""Anthropic's Messages API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from omniperf.agents.providers.protocol import (
    Conversation,
    Item,
    Reply,
    Stop,
    ToolCall,
    ToolResult,
    as_object,
    unique,
)
from omniperf.agents.providers.wire import Wire, certificates, cut
from omniperf.gateway.failures import CallError
from omniperf.gateway.tokens import Tokens, at_least

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from omniperf.agents.providers.protocol import ToolSpec

_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


_CACHED: Item = {"type": "ephemeral"}
_MARK = b',"cache_control":{"type":"ephemeral"}'
# Tokens of thought for models that take a number and know no adaptive thinking; the least that the API takes.
_THOUGHTS, _LEAST_THOUGHT = {"low": 2048, "medium": 8192, "high": 16_384}, 1024


class AnthropicMessages:
    """The Messages API. What was sent before is read from the provider's cache, which keeps long runs cheap.

    Four places are marked for the cache: the instructions with the tools, the prompt, and the last two turns of the
    user. The API looks for what it has kept only 20 blocks before a mark, and a reply with many calls has more; the
    mark before the last is exactly where the last request ended.
    """

    name = "anthropic"

    def __init__(self, model: str, key: str, base_url: str, effort: str = "") -> None:
        from anthropic import Anthropic, APIError, DefaultHttpxClient, Stream

        self.model, self.ids = model, set[str]()
        self._effort, self._adaptive = effort, True
        http = DefaultHttpxClient(verify=certificates())
        client = Anthropic(api_key=key, base_url=base_url, max_retries=0, http_client=http)
        self.wire = Wire(client, http, Stream[object], APIError)

    def begin(self, system: str, tools: Sequence[ToolSpec], key: str = "") -> Conversation:  # noqa: ARG002
        """An empty conversation with these instructions and tools. Its cache needs no key."""
        text: Item = {"type": "text", "text": system, "cache_control": _CACHED}
        head: Item = {"model": self.model, "stream": True, "system": [text]}
        if tools:
            head["tools"] = [
                tool.native or {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in tools
            ]
        return Conversation(head, "messages")

    def say(self, text: str) -> Item:
        """What the user says."""
        return {"role": "user", "content": [{"type": "text", "text": text}]}

    def answer(self, results: Sequence[ToolResult]) -> list[Item]:
        """All results, in the one message that the API wants after a message with calls."""
        blocks = [
            {"type": "tool_result", "tool_use_id": result.id, "content": result.text, "is_error": result.failed}
            for result in results
        ]
        return [{"role": "user", "content": blocks}]

    def results(self, items: Iterable[Item]) -> list[ToolResult]:
        """The results in what was answered."""
        blocks = [block for item in items for block in item["content"] if block["type"] == "tool_result"]
        return [ToolResult(block["tool_use_id"], block["content"], block["is_error"]) for block in blocks]

    def calls(self, items: Iterable[Item]) -> list[ToolCall]:
        """The calls of a reply."""
        blocks = [block for item in items for block in item["content"] if block["type"] == "tool_use"]
        return [ToolCall(block["id"], block["name"], json.dumps(block["input"])) for block in blocks]

    def send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        """Make one call. Raises CallError."""
        deadline = time.monotonic() + seconds
        try:
            return self._send(conversation, max_output, deadline)
        except CallError as error:
            # Older models think as many tokens as they are told.
            if error.kind != "protocol" or not self._effort or not self._adaptive or "adaptive" not in str(error):
                raise
            self._adaptive = False
            return self._send(conversation, max_output, deadline)

    def _send(self, conversation: Conversation, max_output: int, deadline: float) -> Reply:
        body = conversation.request({"max_tokens": max_output, **self._thinking(max_output)}, _MARK)
        message = _Message()
        with self.wire.call("/v1/messages", body, deadline, message.spent) as events:
            for event in events:
                message.take(event)
            return message.reply(self.ids)

    def _thinking(self, max_output: int) -> Item:
        if not self._effort:
            return {}
        if self._adaptive:
            return {"thinking": {"type": "adaptive"}, "output_config": {"effort": self._effort}}
        tokens = min(_THOUGHTS[self._effort], max_output // 2)
        return {"thinking": {"type": "enabled", "budget_tokens": tokens}} if tokens >= _LEAST_THOUGHT else {}

    def close(self) -> None:
        """Close the connections."""
        self.wire.close()


class _Message:
    """A message that is being streamed."""

    def __init__(self) -> None:
        self._blocks: dict[int, Item] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}
        self._usage: dict[str, int] = {}
        self._model = self._stop = ""
        self._whole = False

    def take(self, event: Item) -> None:
        """Take in one event; kinds that are not known are left alone."""
        match event.get("type"):
            case "message_start":
                self._model = str(event["message"].get("model", ""))
                self._count(event["message"].get("usage"))
            case "content_block_start":
                self._blocks[event["index"]] = dict(event["content_block"])
            case "content_block_delta":
                delta = event["delta"]
                if field := _DELTAS.get(delta.get("type")):
                    self._pieces.setdefault((event["index"], field), []).append(str(delta[field]))
            case "message_delta":
                self._stop = str(event["delta"].get("stop_reason") or self._stop)
                self._count(event.get("usage"))
            case "message_stop":
                self._whole = True

    def _count(self, usage: Any) -> None:
        """Usage comes in parts; a later figure replaces an earlier one."""
        if isinstance(usage, dict):
            self._usage |= {key: value for key, value in usage.items() if isinstance(value, int)}

    @property
    def tokens(self) -> Tokens | None:
        """What the server says is used so far; of the output little before the end."""
        if not self._usage:
            return None
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
        return Tokens(*(self._usage.get(name, 0) for name in names))

    def spent(self) -> Tokens | None:
        """What the message has cost so far, at least."""
        if not self._usage and not self._pieces:
            return None
        return at_least(self.tokens, (piece for pieces in self._pieces.values() for piece in pieces))

    def reply(self, ids: set[str]) -> Reply:
        """The whole message; ids of calls that were given before are others in it. Raises CallError."""
        if not self._whole:
            raise cut()
        if self._stop == "model_context_window_exceeded":
            raise CallError("context", "the reply does not fit in the model's context")
        content, calls, texts = [], [], []
        for index in sorted(self._blocks):
            block = self._blocks[index]
            for (of, field), pieces in self._pieces.items():
                if of == index and field != "partial_json":
                    block[field] = block.get(field, "") + "".join(pieces)
            if block.get("type") == "text":
                if not block.get("text", "").strip():
                    continue  # the API does not take back an empty text
                texts.append(block["text"])
            elif block.get("type") == "tool_use":
                pieces = self._pieces.get((index, "partial_json"), [])
                arguments = "".join(pieces) or json.dumps(block.get("input") or {})
                block["id"] = unique(str(block["id"]), ids)
                calls.append(ToolCall(block["id"], str(block["name"]), arguments))
                block["input"] = as_object(arguments) or {}
            content.append(block)
        stop: Stop = "refusal" if self._stop == "refusal" else "length" if self._stop == "max_tokens" else "end"
        items = ({"role": "assistant", "content": content},) if content else ()
        return Reply(items, "\n".join(texts), tuple(calls), stop, self.tokens, self._model)
