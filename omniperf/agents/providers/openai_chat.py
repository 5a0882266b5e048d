"""OpenAI's Chat Completions API, which many other servers speak."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
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
from omniperf.gateway.tokens import Tokens, at_least, openai_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from omniperf.agents.providers.protocol import ToolSpec

# A server may find a conversation too long when it has promised a stream, and say so in its log alone: llama.cpp's.
_EMPTY = "the stream of the reply was empty: the conversation may be longer than the model takes"
_STOPS: dict[str, Stop] = {"length": "length", "content_filter": "refusal"}


class OpenAIChat:
    """The Chat Completions API."""

    name = "openai"

    def __init__(self, model: str, key: str, base_url: str, effort: str = "") -> None:
        from openai import APIError, DefaultHttpxClient, OpenAI, Stream

        self.model, self.ids = model, set[str]()
        self._extra: Item = {"reasoning_effort": effort} if effort else {}
        http = DefaultHttpxClient(verify=certificates())
        client = OpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http)
        self.wire = Wire(client, http, Stream[object], APIError)
        self._limit = "max_completion_tokens"

    def begin(self, system: str, tools: Sequence[ToolSpec], key: str = "") -> Conversation:
        """A conversation with these instructions and tools."""
        if key:
            self._extra["prompt_cache_key"] = key
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

    def results(self, items: Iterable[Item]) -> list[ToolResult]:
        """The results in what was answered."""
        return [ToolResult(item["tool_call_id"], item["content"]) for item in items if item["role"] == "tool"]

    def calls(self, items: Iterable[Item]) -> list[ToolCall]:
        """The calls of a reply."""
        made = [call for item in items for call in item.get("tool_calls", ())]
        return [ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in made]

    def send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        """Make one call. Raises CallError."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._send(conversation, max_output, deadline)
            except CallError as error:
                if error.kind != "protocol" or not self._does_without(str(error)):
                    raise

    def _does_without(self, said: str) -> bool:
        """Whether what a server refused can be left out: some know only the older name of the limit, or no key."""
        if "prompt_cache_key" in said and self._extra.pop("prompt_cache_key", ""):
            return True
        known, self._limit = self._limit, "max_tokens"
        return known != "max_tokens" and known in said

    def _send(self, conversation: Conversation, max_output: int, deadline: float) -> Reply:
        body, message = conversation.request({self._limit: max_output, **self._extra}), _Message()
        with self.wire.call("/chat/completions", body, deadline, message.spent) as events:
            for event in events:
                message.take(event)
            return message.reply(self.ids)

    def close(self) -> None:
        """Close the connections."""
        self.wire.close()


@dataclass
class _Call:
    """A tool call that is being streamed; `extra` is what its server wants back with it, such as a signature."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: Any = None


class _Message:
    """A message that is being streamed in chunks."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._open: dict[int, _Call] = {}  # the last call of each index
        self._model = ""
        self._finish: str | None = None
        self._refused = False
        self._usage: Any = None
        self._begun = False

    def take(self, chunk: Item) -> None:
        """Take in one chunk."""
        self._begun = True
        self._model = str(chunk.get("model") or self._model)
        self._usage = chunk.get("usage") or self._usage
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            self._texts += [delta[name] for name in ("content", "refusal") if delta.get(name)]
            self._refused = self._refused or bool(delta.get("refusal"))
            if isinstance(reasoning := delta.get("reasoning_content"), str):
                self._reasoning.append(reasoning)
            for position, part in enumerate(delta.get("tool_calls") or ()):
                self._take_part(part, position)
            self._finish = choice.get("finish_reason") or self._finish

    def _take_part(self, part: Item, position: int) -> None:
        """Take in a part of a call. Some servers number no calls, or all of them 0: a new id starts a new call."""
        index = position if part.get("index") is None else part["index"]
        id_, call = str(part.get("id") or ""), self._open.get(index)
        if call is None or (id_ and call.id and id_ != call.id):
            call = self._open[index] = _Call()
            self._calls.append(call)
        function = part.get("function") or {}
        # Some servers repeat the id and the name in every chunk.
        call.id, call.name = call.id or id_, call.name or str(function.get("name") or "")
        call.arguments.append(str(function.get("arguments") or ""))
        call.extra = part.get("extra_content") or call.extra

    @property
    def tokens(self) -> Tokens | None:
        """What is known to be used; some servers never say."""
        if not isinstance(self._usage, dict):
            return None
        return openai_usage(self._usage, "prompt_tokens", "completion_tokens")

    def spent(self) -> Tokens | None:
        """What the message has cost so far, at least."""
        if not self._begun:
            return None
        arguments = (piece for call in self._calls for piece in call.arguments)
        return at_least(self.tokens, (*self._texts, *self._reasoning, *arguments))

    def reply(self, ids: set[str]) -> Reply:
        """The whole message; ids of calls that were given before are others in it. Raises CallError."""
        if self._finish is None:
            raise cut() if self._begun else CallError("network", _EMPTY, retry=True, tokens=Tokens())
        text, calls = "".join(self._texts), []
        item: Item = {"role": "assistant", "content": text}  # never null, which some servers refuse beside tool calls
        if self._reasoning:
            item["reasoning_content"] = "".join(self._reasoning)  # servers of thinking models want it back
        for made in self._calls:
            call = ToolCall(unique(made.id, ids), made.name, "".join(made.arguments))
            calls.append(call)
            function = {"name": call.name, "arguments": _json(call.arguments)}
            kept = {"id": call.id, "type": "function", "function": function}
            item.setdefault("tool_calls", []).append(kept | ({"extra_content": made.extra} if made.extra else {}))
        stop: Stop = "refusal" if self._refused else _STOPS.get(self._finish, "end")
        return Reply((item,) if text or calls else (), text, tuple(calls), stop, self.tokens, self._model)


def _json(arguments: str) -> str:
    """Arguments as they are sent back: servers that render them into a template stop at what is no object."""
    return "{}" if as_object(arguments) is None else arguments
