"""Each provider alone: a real SDK over real HTTP to a scripted server."""

from __future__ import annotations

import json
import math
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.providers.anthropic import AnthropicMessages
from omniperf.agents.providers.openai_chat import OpenAIChat
from omniperf.agents.providers.openai_responses import OpenAIResponses
from omniperf.agents.providers.protocol import Conversation
from omniperf.agents.toolset import TOOLS
from omniperf.gateway import backoff
from omniperf.gateway.failures import CallError
from omniperf.gateway.shared import Shared
from omniperf.gateway.tokens import BYTES_PER_TOKEN, Tokens
from tests.agents.loopback import Fail, Loopback, Raw, Say, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.providers.protocol import Provider

KEY = "sk-secret-0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


@pytest.fixture(params=["anthropic", "responses", "chat"])
def provider(request: pytest.FixtureRequest, server: Loopback) -> Iterator[Provider]:
    made: Provider
    match request.param:
        case "anthropic":
            made = AnthropicMessages("m", KEY, server.url)
        case "responses":
            made = OpenAIResponses("m", KEY, f"{server.url}/v1")
        case _:
            made = OpenAIChat("m", KEY, f"{server.url}/v1")
    yield made
    made.close()


def talk(provider: Provider) -> Conversation:
    conversation = provider.begin("Be quick.", TOOLS)
    conversation.add([provider.say("Go.")])
    return conversation


def test_a_reply_with_text_calls_usage_and_the_model_that_gave_it(provider: Provider, server: Loopback) -> None:
    server.play([Say("I lóok.", (("bash", {"command": "ls"}), ("test", {})), thinking="hm", usage=(7, 5, 3, 2))])
    reply = provider.send(talk(provider), 1000, 10)
    assert (reply.text, reply.stop, reply.model) == ("I lóok.", "end", "a-model-2026-11-01")
    assert [(call.name, json.loads(call.arguments)) for call in reply.calls] == [
        ("bash", {"command": "ls"}),
        ("test", {}),
    ]
    assert len({call.id for call in reply.calls}) == 2
    assert reply.tokens == Tokens(input=7, cache_read=5, cache_write=3, output=2)


@pytest.mark.parametrize(
    ("step", "stop", "text"),
    [
        (Say("Half", stop="length"), "length", "Half"),
        (Say("No.", stop="refusal"), "refusal", "No."),
        (Say(), "end", ""),
    ],
)
def test_how_a_reply_can_end(provider: Provider, server: Loopback, step: Say, stop: str, text: str) -> None:
    server.play([step])
    reply = provider.send(talk(provider), 1000, 10)
    assert (reply.stop, reply.text, reply.calls) == (stop, text, ())


@pytest.mark.parametrize(
    "arguments",
    [
        '{"command": "l',
        '{"timeout": 1e999}',
        '{"timeout": -Infinity}',
        '{"timeout": NaN}',
        '{"timeout": 1' + "0" * 400 + "}",
        '{"a":' * 100_000,
        '{"a":' * 100 + "1" + "}" * 100,
        '["ls"]',
    ],
    ids=lambda text: text[:24],
)
def test_arguments_that_are_no_json_come_as_they_were_written_and_do_not_spoil_the_history(
    provider: Provider, server: Loopback, arguments: str
) -> None:
    server.play([Say("", (("bash", arguments),)), Say("Done.")])
    conversation = talk(provider)
    reply = provider.send(conversation, 1000, 10)
    assert [call.arguments for call in reply.calls] == [arguments]
    conversation.add(reply.items)
    assert provider.send(conversation, 1000, 10).text == "Done."
    if isinstance(provider, AnthropicMessages):
        assert server.calls[1].body["messages"][1]["content"][0]["input"] == {}
    if isinstance(provider, OpenAIChat):
        assert server.calls[1].body["messages"][2]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize("arguments", ['{"timeout": 1.5, "lines": [1, -1]}', '{"timeout": 10000000000000001}'])
def test_arguments_that_are_json_go_back_as_they_came(provider: Provider, server: Loopback, arguments: str) -> None:
    server.play([Say("", (("bash", arguments),)), Say("Done.")])
    conversation = talk(provider)
    conversation.add(provider.send(conversation, 1000, 10).items)
    provider.send(conversation, 1000, 10)
    body = json.dumps(server.calls[1].body)
    assert (arguments if isinstance(provider, AnthropicMessages) else json.dumps(arguments)) in body


HOUR = {"retry-after": "3600"}
BROKEN = Say("I look at it.", (("test", {}),), cut=True)
FAILURES = [
    (Fail(401, "authentication_error", "bad key {authorization}"), "auth", False),
    (Fail(403, "permission_error"), "auth", False),
    (Fail(402, "billing_error"), "quota", False),
    (Fail(429, "insufficient_quota", "You exceeded your current quota"), "quota", False),
    (Fail(400, "invalid_request_error", "Your credit balance is too low"), "quota", False),
    (Fail(400, "context_length_exceeded"), "context", False),
    (Fail(400, "invalid_request_error", "prompt is too long: 300 tokens > 200"), "context", False),
    (Fail(429, "rate_limit_error", headers=HOUR), "throttled", True),
    (Fail(503, "slow_down"), "throttled", True),
    (Fail(529, "overloaded_error"), "throttled", True),
    (Fail(529, "overloaded_error", headers={"x-should-retry": "false"}), "throttled", False),
    (Fail(400, "odd", headers={"x-should-retry": "true"}), "protocol", True),
    (Fail(408, "timeout"), "network", True),
    (Fail(500, "api_error"), "network", True),
    (Fail(502, "bad_gateway"), "network", True),
    (Fail(400, "invalid_request_error"), "protocol", False),
    (Fail(404, "not_found_error"), "protocol", False),
    (Fail(413, "request_too_large"), "context", False),
    (
        Fail(
            400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 190000 + 16384 > 200000"
        ),
        "context",
        False,
    ),
    (
        Fail(400, "400", "The input token count (1048577) exceeds the maximum number of tokens allowed"),
        "context",
        False,
    ),
    (Fail(400, "BadRequestError", "This model's maximum context length is 4096 tokens."), "context", False),
    (Fail(400, "invalid_request_error", "Your input exceeds the context window of this model."), "context", False),
    (Fail(422, "unprocessable"), "protocol", False),
    (Fail(400, "invalid_request_error", "Output blocked by content filtering policy"), "filtered", False),
    (Fail(400, "content_filter", "The prompt triggers Azure OpenAI's content management policy."), "filtered", False),
    (Say("I", trouble="overloaded_error"), "throttled", True),
    (Say("I", trouble="server_error"), "network", True),
    (Say("I", trouble="invalid_request_error"), "protocol", False),
    (Say("I", trouble=429), "throttled", True),
    (Say("I", trouble="429"), "throttled", True),
    (Say("I", trouble=502), "network", True),
    (Say("I", trouble=500), "network", True),
    (Say("I", trouble=401), "auth", False),
    (Say("I", trouble=400), "protocol", False),
    (BROKEN, "network", True),
]


@pytest.mark.parametrize(("step", "kind", "retry"), FAILURES, ids=[f"{step}"[:60] for step, _, _ in FAILURES])
def test_what_a_failure_is_and_whether_it_may_pass(
    provider: Provider, server: Loopback, step: Step, kind: str, retry: bool
) -> None:
    server.play([step])
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 10)
    error = caught.value
    assert (error.kind, error.retry) == (kind, retry), str(error)
    assert len(server.calls) == 1  # the SDK retries nothing by itself
    assert KEY not in str(error)
    assert error.after == (3600 if step in [Fail(429, "rate_limit_error", headers=HOUR)] else None)


@pytest.mark.parametrize("skew", [-5 * 3600, 5 * 3600])
def test_a_date_to_wait_for_is_by_the_servers_own_clock(provider: Provider, server: Loopback, skew: float) -> None:
    after = {"retry-after": formatdate(time.time() + skew + 60, usegmt=True)}
    server.play([Fail(429, "rate_limit_error", headers=after)])
    server.skew = skew
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 10)
    assert caught.value.after is not None
    assert 30 < caught.value.after <= 60


def test_a_server_that_is_not_there(provider: Provider, server: Loopback) -> None:
    gone = type(provider)("m", KEY, "http://127.0.0.1:9")
    with pytest.raises(CallError) as caught:
        gone.send(talk(gone), 1000, 10)
    assert (caught.value.kind, caught.value.retry) == ("network", True)


LONG = "words that were streamed before the connection broke " * 30


@pytest.mark.parametrize("how", [{"cut": True}, {"stall": 3.0}, {"pings": 3.0}, {"trouble": "server_error"}], ids=str)
def test_a_reply_that_breaks_off_costs_what_had_streamed(
    provider: Provider, server: Loopback, how: dict[str, Any]
) -> None:
    server.play([Say(LONG, (("test", {}),) * 4, **how)])
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 1.0)
    tokens = caught.value.tokens
    assert tokens is not None
    counted = (100, 40, 10) if isinstance(provider, AnthropicMessages) else (0, 0, 0)  # it alone counts at once
    assert (tokens.input, tokens.cache_read, tokens.cache_write) == counted
    if not isinstance(provider, OpenAIResponses):  # whose text the server sends in one piece at its end
        assert len(LONG) / 2 <= tokens.output * BYTES_PER_TOKEN <= len(LONG) + 10


def test_what_streams_from_the_responses_api_is_counted_before_it_ends(server: Loopback) -> None:
    deltas = ("output_text", "reasoning_summary_text", "function_call_arguments")
    events = [("", {"type": "response.output_item.added", "output_index": 0, "item": {}})]
    events += [("", {"type": f"response.{name}.delta", "delta": "é" * 100}) for name in deltas]
    server.play([Raw(tuple(events))])
    provider = OpenAIResponses("m", KEY, f"{server.url}/v1")
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 10)
    assert caught.value.tokens == Tokens(output=600 // BYTES_PER_TOKEN)


@pytest.mark.parametrize(
    "step", [Fail(500, "api_error"), Fail(429, "rate_limit_error"), Raw((("error", {"error": {"code": 529}}),))]
)
def test_a_call_that_is_refused_costs_nothing(provider: Provider, server: Loopback, step: Step) -> None:
    server.play([step])
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 10)
    assert caught.value.tokens is None


@pytest.mark.parametrize("how", [{"pings": 5.0}, {"stall": 5.0}], ids=str)
def test_neither_pings_nor_silence_keep_a_call_alive(provider: Provider, server: Loopback, how: dict[str, Any]) -> None:
    server.play([Say("I look.", (("test", {}),), **how), Say("Again.")])
    started = time.monotonic()
    with pytest.raises(CallError, match="longer than there was time") as caught:
        provider.send(talk(provider), 1000, 1.0)
    assert 0.9 < time.monotonic() - started < 2.0
    assert (caught.value.kind, caught.value.retry) == ("network", True)
    assert provider.send(talk(provider), 1000, 10).text == "Again."


def test_pings_before_a_reply_do_no_harm(provider: Provider, server: Loopback) -> None:
    server.play([Say("I look.", pings=0.5)])
    assert provider.send(talk(provider), 1000, 10).text == "I look."


def test_no_call_outlives_the_time_that_is_left(provider: Provider, server: Loopback) -> None:
    server.play([Say("I look.", (("test", {}),))])
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 1e-9)
    assert caught.value.retry


def test_waiting_doubles_obeys_the_server_and_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", waits.append)

    def failing(after: float | None, deadline: float = math.inf) -> list[float]:
        waits.clear()

        def call() -> None:
            raise CallError("throttled", "no", retry=True, after=after)

        with pytest.raises(CallError):
            backoff.patiently(call, lambda error, wait: None, deadline)  # type: ignore[arg-type]
        return list(waits)

    own = failing(None)
    assert len(own) == backoff.TRIES - 1
    assert all(0.24 * 2**n <= wait <= 1.25 * 0.5 * 2**n for n, wait in enumerate(own))
    asked = failing(20.0)
    assert len(asked) == 5
    assert all(19.9 <= wait <= 25 for wait in asked)
    assert failing(backoff.LONGEST_ASKED + 1) == []
    assert failing(20.0, time.monotonic() + 10) == []


def test_a_pause_of_others_that_outlasts_the_deadline_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", waits.append)
    pause, calls = backoff.Pause(Shared(), "openai", "", 0.5), []
    pause.failed(time.monotonic(), 20.0)
    with pytest.raises(CallError, match="longer than there is time") as caught:
        backoff.patiently(lambda: calls.append(1), lambda error, wait: None, time.monotonic() + 10, pause)
    assert (caught.value.kind, calls, waits) == ("throttled", [], [])
    backoff.patiently(lambda: calls.append(1), lambda error, wait: None, time.monotonic() + 60, pause)
    assert len(calls) == len(waits) == 1


def test_a_pause_that_others_make_longer_raises_the_failure_before_it() -> None:
    pause = backoff.Pause(Shared(), "openai", "", 0.01)
    failure = CallError("network", "no", retry=True)

    def call() -> None:
        pause.failed(time.monotonic(), 20.0)
        raise failure

    with pytest.raises(CallError) as caught:
        backoff.patiently(call, lambda error, wait: None, time.monotonic() + 10, pause)
    assert caught.value is failure


def chunk(*calls: dict[str, Any], finish: str | None = None, **delta: Any) -> tuple[str, Any]:
    choice = {"index": 0, "delta": {**delta, **({"tool_calls": list(calls)} if calls else {})}, "finish_reason": finish}
    return "", {"model": "m", "choices": [choice]}


def part(arguments: str, id_: str | None = None, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": id_, "function": {"name": name, "arguments": arguments}, **more}


A, B = '{"command": "a"}', '{"command": "b"}'
PARALLEL = [
    ("all are number 0", [part(A, "1", "bash", index=0)], [part(B, "2", "bash", index=0)]),
    ("no numbers", [part(A, "1", "bash")], [part(B, "2", "bash")]),
    ("null for a number", [part(A, "1", "bash", index=None)], [part(B, "2", "bash", index=None)]),
    ("both in one chunk", [part(A, "1", "bash"), part(B, "2", "bash")]),
    ("in pieces, number 0", [part(A[:5], "1", "bash", index=0)], [part(A[5:], index=0)],
     [part(B[:5], "2", "bash", index=0)], [part(B[5:], index=0)]),
    ("in pieces, no numbers", [part(A[:5], "1", "bash")], [part(A[5:])], [part(B[:5], "2", "bash")], [part(B[5:])]),
    ("in turns", [part(A[:5], "1", "bash", index=0)], [part(B[:5], "2", "bash", index=1)], [part(A[5:], index=0)],
     [part(B[5:], index=1)]),
    ("ids and names again", [part(A[:5], "1", "bash", index=0)], [part(A[5:], "1", "bash", index=0)],
     [part(B[:5], "2", "bash", index=1)], [part(B[5:], "2", "bash", index=1)]),
]  # fmt: skip


@pytest.mark.parametrize("chunks", [row[1:] for row in PARALLEL], ids=[row[0] for row in PARALLEL])
def test_parallel_calls_stay_apart_however_a_server_numbers_them(server: Loopback, chunks: Any) -> None:
    server.play([Raw((*(chunk(*parts) for parts in chunks), chunk(finish="tool_calls"), ("", "[DONE]")))])
    provider = OpenAIChat("m", KEY, f"{server.url}/v1")
    calls = provider.send(talk(provider), 1000, 10).calls
    assert [(call.id, call.name, call.arguments) for call in calls] == [("1", "bash", A), ("2", "bash", B)]


def test_thoughts_and_signatures_go_back_to_the_server_they_came_from(server: Loopback) -> None:
    signature = {"google": {"thought_signature": "sig"}}
    events = (
        chunk(reasoning_content="I th"),
        chunk(reasoning_content="ink."),
        chunk(part(A, "1", "bash", index=0, extra_content=signature)),
        chunk(part(B, "2", "bash", index=1)),
        chunk(finish="tool_calls", reasoning_content=None),
        ("", "[DONE]"),
    )
    server.play([Raw(events), Say("Done.")])
    provider = OpenAIChat("m", KEY, f"{server.url}/v1")
    conversation = talk(provider)
    conversation.add(provider.send(conversation, 1000, 10).items)
    provider.send(conversation, 1000, 10)
    message = server.calls[1].body["messages"][2]
    assert message["reasoning_content"] == "I think."
    assert [call.get("extra_content") for call in message["tool_calls"]] == [signature, None]


THOUGHT = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "bash", "arguments": A, "status": "completed"}
TEXT = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "I"}],
    "status": "completed",
}


def half(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "status": "incomplete"}


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        ([THOUGHT], []),
        ([TEXT, THOUGHT, THOUGHT], [TEXT]),
        ([THOUGHT, CALL, THOUGHT, half(CALL)], [THOUGHT, CALL]),
        ([THOUGHT, half(TEXT)], []),
        ([THOUGHT, TEXT], [THOUGHT, TEXT]),
    ],
)
def test_only_what_the_responses_api_takes_back_is_kept(server: Loopback, output: Any, kept: Any) -> None:
    response = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": output}
    server.play([Raw((("", {"type": "response.incomplete", "response": response}),))])
    provider = OpenAIResponses("m", KEY, f"{server.url}/v1")
    reply = provider.send(talk(provider), 1000, 10)
    assert (list(reply.items), reply.stop) == (kept, "length")
    assert [call.id for call in reply.calls] == ["c"] * (CALL in kept)


def test_each_item_is_serialised_once_and_a_request_is_one_copy() -> None:
    conversation = Conversation({"model": "m"}, "messages")
    assert json.loads(conversation.request({"max": 1})) == {"model": "m", "messages": [], "max": 1}
    item = {"role": "user", "content": "é \ud800"}
    conversation.add([item, item])
    item["content"] = "changed afterwards"
    body = conversation.request({"max": 2})
    assert json.loads(body)["messages"] == [{"role": "user", "content": "é ?"}] * 2
    assert len(body) == len(conversation) + len('],"max":2}')
