"""A scripted model server on loopback that speaks three APIs, streaming, as their documentation describes them.

It answers each call that brings tools with the next step of its script, and any other call (the one that proves key and
model) with one word. Everything that it was sent is in `calls`.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

USAGE = (100, 40, 10, 20)  # input from no cache, read from it, written to it; output


@dataclass(frozen=True)
class Say:
    """A reply. A call is a name with its arguments, or with a text that is no JSON."""

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    stop: str = ""  # "length", "refusal" or, for OpenAI's, "filter"
    usage: tuple[int, int, int, int] | None = USAGE
    cut: bool = False  # the connection breaks in the middle
    stall: float = 0.0  # seconds of silence in the middle
    pings: float = 0.0  # seconds of pings in the middle
    model: str = ""  # that says it answered; the server's own where there is none
    trouble: str | int = ""  # an error inside the stream, of this type or code
    thinking: str = ""
    id: str = ""  # of each of its calls; ids of their own where there is none

    def id_of(self, kind: str, turn: int, number: int) -> str:
        return self.id or f"{kind}_{turn}_{number}"


@dataclass(frozen=True)
class Fail:
    """A reply with an error status."""

    status: int
    code: str = "invalid_request_error"
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


Event = tuple[str, Any]


@dataclass(frozen=True)
class Raw:
    """A stream of these events, whatever they are."""

    events: tuple[Event, ...]


@dataclass(frozen=True)
class Gone:
    """No reply: the connection is reset, after some events or before any; the server is `down` from then on."""

    down: bool = False


Step = Say | Fail | Raw | Gone


@dataclass(frozen=True)
class Call:
    """One request: its path, its headers (names in lower case), its body."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Loopback:
    """The server. `script` is set by each test; a script that has run out answers 500."""

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Call] = []
        self.probes: list[Call] = []
        self.probe: Step = Say("Yes.")
        self.model = "a-model-2026-11-01"  # what replies say that they come from
        self.skew = 0.0  # seconds by which the clock is ahead that its replies are dated by
        self._script: Iterator[Step] = iter(())
        self._by_call: Callable[[Call], Step] | None = None
        self._lock = Lock()
        handler = type("Handler", (_Handler,), {"loopback": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def play(self, script: Iterable[Step] | Callable[[Call], Step]) -> None:
        """Start over with another script: steps in their order, or what says the step for a call."""
        self._by_call = script if callable(script) else None
        self._script, self.calls, self.probes = iter(() if callable(script) else script), [], []
        self.probe, self.model, self.skew = Say("Yes."), "a-model-2026-11-01", 0.0

    def play_by_turns(self, script: Sequence[Step]) -> None:
        """Start over; a call is answered by how many replies it already holds, however often it is made."""
        self.play(lambda call: script[min(replies_in(call.body), len(script) - 1)])

    def answer(self, call: Call) -> Step:
        with self._lock:
            if not call.body.get("tools"):
                self.probes.append(call)
                return self.probe
            self.calls.append(call)
            if self._by_call is not None:
                return self._by_call(call)
            return next(self._script, Fail(500, "server_error", "the script has run out"))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        try:
            body = _strictly(self.rfile.read(int(self.headers["content-length"])))
        except (ValueError, RecursionError) as error:
            self._plain(400, {"error": {"type": "invalid_request_error", "message": f"invalid JSON: {error}"}}, {})
            return
        call = Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        path = self.path.partition("?")[0]
        routes: dict[str, Callable[[Say, str, int], list[Event]]] = {
            "/v1/messages": messages,
            "/v1/responses": responses,
            "/v1/chat/completions": chat,
        }
        if path not in routes:
            self._plain(404, {"error": {"type": "not_found_error", "message": f"no such path {self.path}"}}, {})
            return
        step = self.loopback.answer(call)
        if isinstance(step, Fail):
            message = step.message.replace("{authorization}", call.headers.get("authorization", ""))
            error = {"type": step.code, "code": step.code, "message": message, "param": None}
            self._plain(step.status, {"type": "error", "error": error}, step.headers)
            return
        if isinstance(step, Gone):
            self._reset(down=step.down)
            return
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that has had enough
            if isinstance(step, Raw):
                self._stream(list(step.events), Say())
                return
            turn = len(self.loopback.calls)
            events = routes[path](step, step.model or self.loopback.model, turn)
            if body.get("stream"):
                self._stream(events, step)
            else:
                self._plain(200, whole(path, events, step, turn), {"content-length": "1000000"} if step.cut else {})
                self.close_connection = step.cut

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.loopback.skew)

    def _plain(self, status: int, value: object, headers: dict[str, str]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: list[Event], how: Say) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        middle = len(events) // 2
        for number, (name, value) in enumerate(events):
            if number == middle and how.cut:
                self.close_connection = True
                return
            if number == middle:
                self._idle(how)
            data = value if isinstance(value, str) else json.dumps(value)
            self._chunk((f"event: {name}\n" if name else "") + f"data: {data}\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _reset(self, *, down: bool) -> None:
        """Break off without the courtesies of TCP; mid-stream unless the server goes down."""
        if down:
            self.loopback.close()
        else:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self._chunk('event: ping\ndata: {"type": "ping"}\n\n')
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _idle(self, how: Say) -> None:
        time.sleep(how.stall)
        end = time.monotonic() + how.pings
        while time.monotonic() < end:
            self._chunk('event: ping\ndata: {"type": "ping"}\n\n' if self.path == "/v1/messages" else ": ping\n\n")
            time.sleep(0.1)

    def _chunk(self, text: str) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text.encode()), text.encode()))

    def log_message(self, *arguments: object) -> None:  # type: ignore[override]
        pass


def _strictly(body: bytes) -> Any:
    """JSON as a real server reads it: Python's own parser takes numbers that are none."""

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"{text} is no number")
        return value

    return json.loads(body, parse_constant=number, parse_float=number)


def _written(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def replies_in(body: dict[str, Any]) -> int:
    """Runs of what the model wrote: one reply may be several items."""
    items = body.get("messages") or body.get("input") or []
    its = [
        item.get("role") == "assistant" or item.get("type") in ("function_call", "custom_tool_call", "reasoning")
        for item in items
    ]
    return sum(now and not before for before, now in zip([False, *its], its, strict=False))


def whole(path: str, events: list[Event], step: Say, turn: int) -> dict[str, Any]:
    """A reply that is not streamed, from what would be."""
    if path == "/v1/responses":
        response: dict[str, Any] = events[-1][1]["response"]
        return response
    if path == "/v1/messages":
        blocks: list[dict[str, Any]] = [{"type": "text", "text": step.text}] if step.text else []
        for number, (name, arguments) in enumerate(step.calls):
            id_ = step.id_of("toolu", turn, number)
            blocks.append({"type": "tool_use", "id": id_, "name": name, "input": arguments})
        last = events[-2][1]
        start: dict[str, Any] = events[0][1]["message"]
        return {**start, "content": blocks, **last["delta"], "usage": {**start["usage"], **last["usage"]}}
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": _written(arguments)}}
        for id_, (name, arguments) in ((step.id_of("call", turn, n), call) for n, call in enumerate(step.calls))
    ]
    message = {"role": "assistant", "content": step.text, **({"tool_calls": calls} if calls else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    base, usage = events[0][1], events[-2][1].get("usage")
    return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}


def messages(step: Say, model: str, turn: int) -> list[Event]:
    """Anthropic's Messages API."""
    fresh, read, written, output = step.usage or USAGE
    usage = {"input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    start = {"id": f"msg_{turn}", "type": "message", "role": "assistant", "model": model, "content": []}
    events: list[Event] = [
        ("message_start", {"type": "message_start", "message": {**start, "usage": {**usage, "output_tokens": 1}}}),
        ("ping", {"type": "ping"}),
    ]
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if step.thinking:
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [
            {"type": "thinking_delta", "thinking": step.thinking},
            {"type": "signature_delta", "signature": "sig"},
        ]
        blocks.append((empty, deltas))
    if step.text:
        blocks.append(
            ({"type": "text", "text": ""}, [{"type": "text_delta", "text": half} for half in _halves(step.text)])
        )
    for number, (name, arguments) in enumerate(step.calls):
        block = {"type": "tool_use", "id": step.id_of("toolu", turn, number), "name": name, "input": {}}
        halves = _halves(_written(arguments))
        blocks.append((block, [{"type": "input_json_delta", "partial_json": half} for half in halves]))
    for index, (block, deltas) in enumerate(blocks):
        events.append(("content_block_start", {"type": "content_block_start", "index": index, "content_block": block}))
        events += [
            ("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas
        ]
        events.append(("content_block_stop", {"type": "content_block_stop", "index": index}))
    if step.trouble:
        error = {"type": step.trouble, "code": step.trouble, "message": "trouble"}
        return [*events, ("error", {"type": "error", "error": error})]
    stop = {"length": "max_tokens", "refusal": "refusal"}.get(step.stop, "tool_use" if step.calls else "end_turn")
    delta = {"stop_reason": stop, "stop_sequence": None}
    events.append(("message_delta", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}}))
    return [*events, ("message_stop", {"type": "message_stop"})]


def responses(step: Say, model: str, turn: int) -> list[Event]:
    """OpenAI's Responses API."""
    output: list[dict[str, Any]] = []
    if step.thinking:
        output.append({"type": "reasoning", "id": f"rs_{turn}", "summary": [], "encrypted_content": step.thinking})
    if step.text:
        part = {"type": "output_text", "text": step.text, "annotations": []}
        if step.stop == "refusal":
            part = {"type": "refusal", "refusal": step.text}
        message = {"type": "message", "id": f"msg_{turn}", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [part]})
    for number, (name, arguments) in enumerate(step.calls):
        ids = {"id": f"fc_{turn}_{number}", "call_id": step.id_of("call", turn, number)}
        *space, name = name.rsplit("/", 1)  # as Codex calls tools of an MCP server
        ids |= {"namespace": space[0]} if space else {}
        call = {"type": "function_call", **ids, "name": name, "arguments": _written(arguments), "status": "completed"}
        output.append(call)
    whole: dict[str, Any] = {"id": f"resp_{turn}", "object": "response", "created_at": 1, "model": model}
    whole |= {"error": None, "incomplete_details": None}
    events: list[Event] = [
        ("response.created", {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}})
    ]
    for index, item in enumerate(output):
        added = {"type": "response.output_item.added", "output_index": index, "item": item}
        done = {"type": "response.output_item.done", "output_index": index, "item": item}
        events += [("response.output_item.added", added), ("response.output_item.done", done)]
    if step.trouble:
        failed = {**whole, "status": "failed", "error": {"code": step.trouble, "message": "trouble"}, "output": output}
        return [*events, ("response.failed", {"type": "response.failed", "response": failed})]
    if step.usage:
        fresh, read, written, out = step.usage
        details = {"cached_tokens": read, "cache_write_tokens": written}
        whole["usage"] = {"input_tokens": fresh + read + written, "input_tokens_details": details, "output_tokens": out}
        whole["usage"] |= {
            "total_tokens": fresh + read + written + out,
            "output_tokens_details": {"reasoning_tokens": 0},
        }
    if why := {"length": "max_output_tokens", "filter": "content_filter"}.get(step.stop):
        whole["incomplete_details"] = {"reason": why}
    status = "incomplete" if why else "completed"
    last = {"type": f"response.{status}", "response": {**whole, "status": status, "output": output}}
    return [*events, (f"response.{status}", last)]


def chat(step: Say, model: str, turn: int) -> list[Event]:
    """OpenAI's Chat Completions API."""
    base = {"id": f"chatcmpl-{turn}", "object": "chat.completion.chunk", "created": 1, "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> Event:
        return "", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    events = [chunk({"role": "assistant", "content": ""})]
    field_ = "refusal" if step.stop == "refusal" else "content"
    events += [chunk({field_: half}) for half in _halves(step.text) if half]
    for number, (name, arguments) in enumerate(step.calls):
        first, second = _halves(_written(arguments))
        id_ = step.id_of("call", turn, number)
        start = {"id": id_, "type": "function", "function": {"name": name, "arguments": first}}
        events.append(chunk({"tool_calls": [{"index": number, **start}]}))
        events.append(chunk({"tool_calls": [{"index": number, "function": {"arguments": second}}]}))
    if step.trouble:
        return [*events, ("", {"error": {"type": step.trouble, "code": step.trouble, "message": "trouble"}})]
    stop = {"length": "length", "filter": "content_filter"}.get(step.stop, "tool_calls" if step.calls else "stop")
    events.append(chunk({}, stop))
    if step.usage:
        fresh, read, written, out = step.usage
        details = {"cached_tokens": read, "cache_write_tokens": written}
        usage = {"prompt_tokens": fresh + read + written, "completion_tokens": out, "prompt_tokens_details": details}
        events.append(("", {**base, "choices": [], "usage": usage}))
    return [*events, ("", "[DONE]")]
