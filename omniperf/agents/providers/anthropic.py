"""Anthropic's Messages API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from omniperf.agents.providers.protocol import Conversation, Item, Reply, Stop, ToolCall, as_object
from omniperf.agents.providers.wire import Wire, cut
from omniperf.gateway.failures import CallError
from omniperf.gateway.tokens import Tokens, at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omniperf.agents.providers.protocol import ToolResult, ToolSpec

_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


class AnthropicMessages:
    """The Messages API. What was sent before is read from the provider's cache, which keeps long runs cheap."""

    name = "anthropic"

    def __init__(self, model: str, key: str, base_url: str | None) -> None:
        from anthropic import Anthropic, APIError, Stream

        self.model = model
        client = Anthropic(api_key=key, base_url=base_url, max_retries=0)
        self._wire = Wire(client, Stream[object], APIError)

    def begin(self, system: str, tools: Sequence[ToolSpec]) -> Conversation:
        """An empty conversation with these instructions and tools."""
        head: Item = {"model": self.model, "stream": True, "system": system, "cache_control": {"type": "ephemeral"}}
        if tools:
            head["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in tools
            ]
        return Conversation(head, "messages")

    def say(self, text: str) -> Item:
        """What the user says."""
        return {"role": "user", "content": text}

    def answer(self, results: Sequence[ToolResult]) -> list[Item]:
        """All results, in the one message that the API wants after a message with calls."""
        blocks = [
            {"type": "tool_result", "tool_use_id": result.id, "content": result.text, "is_error": result.failed}
            for result in results
        ]
        return [{"role": "user", "content": blocks}]

    def send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        """Make one call. Raises CallError."""
        body, message = conversation.request({"max_tokens": max_output}), _Message()
        with self._wire.call("/v1/messages", body, time.monotonic() + seconds, message.spent) as events:
            for event in events:
                message.take(event)
            return message.reply()

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()


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

    def reply(self) -> Reply:
        """The whole message. Raises CallError where it is not whole."""
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
                calls.append(ToolCall(str(block["id"]), str(block["name"]), arguments))
                block["input"] = as_object(arguments) or {}
            content.append(block)
        stop: Stop = "refusal" if self._stop == "refusal" else "length" if self._stop == "max_tokens" else "end"
        items = ({"role": "assistant", "content": content},) if content else ()
        return Reply(items, "\n".join(texts), tuple(calls), stop, self.tokens, self._model)
