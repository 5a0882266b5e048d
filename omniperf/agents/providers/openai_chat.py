"""OpenAI's Chat Completions API, which many other servers speak."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from omniperf.agents.providers.openai_responses import split
from omniperf.agents.providers.protocol import CallError, Conversation, Item, Reply, Stop, Tokens, ToolCall
from omniperf.agents.providers.wire import Wire, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omniperf.agents.providers.protocol import ToolResult, ToolSpec

_STOPS: dict[str, Stop] = {"length": "length", "content_filter": "refusal"}


class OpenAIChat:
    """The Chat Completions API."""

    name = "openai"

    def __init__(self, model: str, key: str, base_url: str | None) -> None:
        from openai import APIError, OpenAI, Stream

        self.model = model
        self._wire = Wire(OpenAI(api_key=key, base_url=base_url, max_retries=0), Stream[object], APIError, key)
        self._limit = "max_completion_tokens"

    def begin(self, system: str, tools: Sequence[ToolSpec]) -> Conversation:
        """A conversation with these instructions and tools."""
        head: Item = {"model": self.model, "stream": True, "stream_options": {"include_usage": True}}
        if tools:
            head["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
                } for tool in tools
            ]  # fmt: skip
        conversation = Conversation(head, "messages")
        conversation.add([{"role": "system", "content": system}])
        return conversation

    def say(self, text: str) -> Item:
        """What the user says."""
        return {"role": "user", "content": text}

    def answer(self, results: Sequence[ToolResult]) -> list[Item]:
        """One message for each result."""
        return [{"role": "tool", "tool_call_id": result.id, "content": result.text} for result in results]

    def send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        """Make one call. Raises CallError."""
        try:
            return self._send(conversation, max_output, seconds)
        except CallError as error:
            # The older name of the limit is the only one that some servers know.
            if error.kind != "protocol" or self._limit == "max_tokens" or self._limit not in str(error):
                raise
            self._limit = "max_tokens"
            return self._send(conversation, max_output, seconds)

    def _send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        body, message = conversation.request({self._limit: max_output}), _Message()
        with self._wire.call("/chat/completions", body, seconds, lambda: message.tokens) as events:
            for event in events:
                message.take(event)
            return message.reply()

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()


class _Message:
    """A message that is being streamed in chunks."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, list[str]]] = {}
        self._model = ""
        self._finish: str | None = None
        self._refused = False
        self._usage: Any = None

    def take(self, chunk: Item) -> None:
        """Take in one chunk."""
        self._model = str(chunk.get("model") or self._model)
        self._usage = chunk.get("usage") or self._usage
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            self._texts += [delta[field] for field in ("content", "refusal") if delta.get(field)]
            self._refused = self._refused or bool(delta.get("refusal"))
            for position, part in enumerate(delta.get("tool_calls") or ()):
                call = self._calls.setdefault(part.get("index", position), {"id": [], "name": [], "arguments": []})
                for field, value in (("id", part.get("id")), *(part.get("function") or {}).items()):
                    # Some servers repeat the id and the name in every chunk.
                    if value and field in call and (field == "arguments" or not call[field]):
                        call[field].append(str(value))
            self._finish = choice.get("finish_reason") or self._finish

    @property
    def tokens(self) -> Tokens | None:
        """What is known to be used; some servers never say."""
        if not self._usage:
            return None
        details = self._usage.get("prompt_tokens_details") or {}
        return split(self._usage["prompt_tokens"], details, self._usage["completion_tokens"])

    def reply(self) -> Reply:
        """The whole message. Raises CallError where it is not whole."""
        if self._finish is None:
            raise cut(self.tokens)
        text, calls = "".join(self._texts), []
        for index in sorted(self._calls):
            id_, name, arguments = ("".join(self._calls[index][field]) for field in ("id", "name", "arguments"))
            calls.append(ToolCall(id_ or f"call_{index}", name, arguments))
        item: Item = {"role": "assistant", "content": text or None}
        if calls:
            item["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _json(call.arguments)}}
                for call in calls
            ]
        stop: Stop = "refusal" if self._refused else _STOPS.get(self._finish, "end")
        return Reply((item,) if text or calls else (), text, tuple(calls), stop, self.tokens, self._model)


def _json(arguments: str) -> str:
    """Arguments as they are sent back: servers that render them into a template stop at what is no JSON."""
    try:
        json.loads(arguments)
    except ValueError:
        return "{}"
    return arguments
