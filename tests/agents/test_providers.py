"""Each provider alone: a real SDK over real HTTP to a scripted server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from omniperf.agents.providers import backoff
from omniperf.agents.providers.anthropic import AnthropicMessages
from omniperf.agents.providers.openai_chat import OpenAIChat
from omniperf.agents.providers.openai_responses import OpenAIResponses
from omniperf.agents.providers.protocol import CallError, Conversation, Tokens
from omniperf.agents.toolset import TOOLS
from tests.agents.loopback import Fail, Loopback, Say, Step

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


def test_arguments_that_are_no_json_come_as_they_were_written_and_do_not_spoil_the_history(
    provider: Provider, server: Loopback
) -> None:
    server.play([Say("", (("bash", '{"command": "l'),)), Say("Done.")])
    conversation = talk(provider)
    reply = provider.send(conversation, 1000, 10)
    assert [call.arguments for call in reply.calls] == ['{"command": "l']
    conversation.add(reply.items)
    provider.send(conversation, 1000, 10)
    assert len(server.calls) == 2


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
    (Fail(413, "request_too_large"), "protocol", False),
    (Fail(422, "unprocessable"), "protocol", False),
    (Say("I", trouble="overloaded_error"), "throttled", True),
    (Say("I", trouble="server_error"), "network", True),
    (Say("I", trouble="invalid_request_error"), "protocol", False),
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


def test_a_server_that_is_not_there(provider: Provider, server: Loopback) -> None:
    gone = type(provider)("m", KEY, "http://127.0.0.1:9")
    with pytest.raises(CallError) as caught:
        gone.send(talk(gone), 1000, 10)
    assert (caught.value.kind, caught.value.retry) == ("network", True)


def test_a_reply_that_breaks_off_is_paid_for_where_the_server_said_how_much(server: Loopback) -> None:
    server.play([BROKEN])
    provider = AnthropicMessages("m", KEY, server.url)
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 10)
    assert caught.value.tokens == Tokens(input=100, cache_read=40, cache_write=10, output=1)


def test_no_call_outlives_the_time_that_is_left(provider: Provider, server: Loopback) -> None:
    server.play([Say("I look.", (("test", {}),))])
    with pytest.raises(CallError) as caught:
        provider.send(talk(provider), 1000, 1e-9)
    assert caught.value.retry


def test_waiting_doubles_obeys_the_server_and_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", waits.append)

    def failing(after: float | None) -> list[float]:
        waits.clear()

        def call() -> None:
            raise CallError("throttled", "no", retry=True, after=after)

        with pytest.raises(CallError):
            backoff.patiently(call, lambda: 1000.0, lambda error, wait: None)  # type: ignore[arg-type]
        return list(waits)

    own = failing(None)
    assert len(own) == backoff.TRIES - 1
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(own))
    assert failing(20.0) == [20.0] * 5
    assert failing(backoff.LONGEST_ASKED + 1) == []


def test_each_item_is_serialised_once_and_a_request_is_one_copy() -> None:
    conversation = Conversation({"model": "m"}, "messages")
    assert json.loads(conversation.request({"max": 1})) == {"model": "m", "messages": [], "max": 1}
    item = {"role": "user", "content": "é \ud800"}
    conversation.add([item, item])
    item["content"] = "changed afterwards"
    body = conversation.request({"max": 2})
    assert json.loads(body)["messages"] == [{"role": "user", "content": "é ?"}] * 2
    assert len(body) == len(conversation) + len('],"max":2}')
