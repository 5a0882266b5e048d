"""OpenAI's Responses API, without state on the server: the whole history goes along, reasoning in encrypted form."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from omniperf.agents.providers.protocol import Conversation, Item, Reply, Stop, ToolCall, ToolResult, unique
from omniperf.agents.providers.wire import Wire, certificates, cut
from omniperf.gateway.failures import CallError, from_report
from omniperf.gateway.tokens import Tokens, at_least, openai_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from omniperf.agents.providers.protocol import ToolSpec


class OpenAIResponses:
    """The Responses API."""

    name = "openai"

    def __init__(self, model: str, key: str, base_url: str, effort: str = "") -> None:
        from openai import APIError, DefaultHttpxClient, OpenAI, Stream

        self.model, self.ids = model, set[str]()
        self._effort: Item = {"reasoning": {"effort": effort}} if effort else {}
        http = DefaultHttpxClient(verify=certificates())
        client = OpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http)
        self.wire = Wire(client, http, Stream[object], APIError)
        self._reasoning = True

    def begin(self, system: str, tools: Sequence[ToolSpec], key: str = "") -> Conversation:
        """An empty conversation with these instructions and tools."""
        head: Item = {"model": self.model, "stream": True, "store": False, "instructions": system}
        if key:
            head["prompt_cache_key"] = key
        if tools:
            head["parallel_tool_calls"] = True
            head["tools"] = [
                {
                    "type": "function", "name": tool.name, "description": tool.description,
                    "parameters": tool.parameters, "strict": False,
                } for tool in tools
            ]  # fmt: skip
        return Conversation(head, "input")

    def say(self, text: str) -> Item:
        """What the user says."""
        return {"role": "user", "content": text}

    def answer(self, results: Sequence[ToolResult]) -> list[Item]:
        """One item for each result."""
        return [{"type": "function_call_output", "call_id": result.id, "output": result.text} for result in results]

    def results(self, items: Iterable[Item]) -> list[ToolResult]:
        """The results in what was answered."""
        kept = [item for item in items if item.get("type") == "function_call_output"]
        return [ToolResult(item["call_id"], item["output"]) for item in kept]

    def calls(self, items: Iterable[Item]) -> list[ToolCall]:
        """The calls of a reply."""
        return _calls(items)

    def send(self, conversation: Conversation, max_output: int, seconds: float) -> Reply:
        """Make one call. Raises CallError."""
        deadline = time.monotonic() + seconds
        try:
            return self._send(conversation, max_output, deadline)
        except CallError as error:
            # Models that do not reason refuse to be asked for it.
            if error.kind != "protocol" or not self._reasoning or "ncrypted" not in str(error):
                raise
            self._reasoning = False
            return self._send(conversation, max_output, deadline)

    def _send(self, conversation: Conversation, max_output: int, deadline: float) -> Reply:
        tail: Item = {"max_output_tokens": max_output, **self._effort}
        if self._reasoning:
            tail["include"] = ["reasoning.encrypted_content"]
        response = _Response()
        with self.wire.call("/responses", conversation.request(tail), deadline, response.spent) as events:
            for event in events:
                response.take(event)
            return response.reply(self.ids)

    def close(self) -> None:
        """Close the connections."""
        self.wire.close()


class _Response:
    """A response that is being streamed. Its last event holds all of it."""

    def __init__(self) -> None:
        self._done: dict[int, Item] = {}
        self._pieces: list[str] = []  # of text, reasoning and arguments
        self._begun = False
        self._last: Item | None = None

    def take(self, event: Item) -> None:
        """Take in one event. Raises CallError where it reports an error."""
        kind = str(event.get("type"))
        match kind:
            case "response.output_item.added":
                self._begun = True
            case "response.output_item.done":
                self._done[event["output_index"]] = event["item"]
            case "response.completed" | "response.incomplete":
                self._last = event["response"]
            case "response.failed":
                self._last = event["response"]
                raise from_report(self._last.get("error"))
            case "error":
                raise from_report(event.get("error") or event)
            case _ if kind.endswith(".delta"):
                self._pieces.append(str(event.get("delta", "")))

    @property
    def tokens(self) -> Tokens | None:
        """What is known to be used: nothing before the last event."""
        usage: Any = (self._last or {}).get("usage")
        return openai_usage(usage, "input_tokens", "output_tokens") if isinstance(usage, dict) else None

    def spent(self) -> Tokens | None:
        """What the response has cost so far, at least."""
        return at_least(self.tokens, self._pieces) if self._begun or self.tokens else None

    def reply(self, ids: set[str]) -> Reply:
        """The whole response; ids of calls that were given before are others in it. Raises CallError."""
        if self._last is None:
            raise cut()
        output = _whole(self._last.get("output") or [self._done[index] for index in sorted(self._done)])
        texts = []
        stop: Stop = "end"
        for item in output:
            if item.get("type") == "function_call":
                item["call_id"] = unique(str(item["call_id"]), ids)
            for part in item.get("content") or () if item.get("type") == "message" else ():
                if part.get("type") == "refusal":
                    stop = "refusal"
                texts.append(str(part.get("text") or part.get("refusal") or ""))
        if self._last.get("status") == "incomplete":
            reason = (self._last.get("incomplete_details") or {}).get("reason")
            stop = "refusal" if reason == "content_filter" else "length"
        return Reply(
            tuple(output), "\n".join(texts), tuple(_calls(output)), stop, self.tokens, str(self._last.get("model", ""))
        )


def _calls(items: Iterable[Item]) -> list[ToolCall]:
    made = [item for item in items if item.get("type") == "function_call"]
    return [ToolCall(str(item["call_id"]), str(item["name"]), str(item.get("arguments", ""))) for item in made]


def _whole(output: list[Item]) -> list[Item]:
    """The items that the API takes back: none that it did not finish, and no reasoning that nothing follows."""
    kept = [item for item in output if item.get("status") != "incomplete"]
    while kept and kept[-1].get("type") == "reasoning":
        kept.pop()
    return kept
