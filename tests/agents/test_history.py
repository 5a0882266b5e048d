"""What is left of a conversation that grows longer than the model takes, and that it is paid for once."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.history import RECENT, History
from omniperf.agents.providers.anthropic import AnthropicMessages
from omniperf.agents.providers.openai_chat import OpenAIChat
from omniperf.agents.providers.openai_responses import OpenAIResponses
from omniperf.agents.providers.protocol import ToolResult
from omniperf.agents.toolset import TOOLS
from omniperf.gateway.failures import window_said
from tests.agents import loopback as apis
from tests.agents.conftest import APIS, KEY, Attempt, answers_of, calls_of, listed
from tests.agents.loopback import Call, Fail, Loopback, Say, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.agents.providers.protocol import Provider

FINISH = Say("Done.", (("finish", {"summary": "done"}),))
PROVIDERS: dict[str, Callable[..., Provider]] = {
    "anthropic": AnthropicMessages, "responses": OpenAIResponses, "chat": OpenAIChat,
}  # fmt: skip


def replied(api: str, number: int, calls: int) -> tuple[dict[str, Any], ...]:
    """The items of a reply, as the provider makes them of what a server streams."""
    from omniperf.agents.providers import anthropic, openai_chat, openai_responses

    made = tuple(("bash", {"command": f"cat {number} {k}"}) for k in range(calls))
    step = Say(f"turn {number}", made, thinking="hm")
    events = {"anthropic": apis.messages, "responses": apis.responses, "chat": apis.chat}[api](step, "m", number)
    message: Any = {
        "anthropic": anthropic._Message, "responses": openai_responses._Response, "chat": openai_chat._Message,
    }[api]()  # fmt: skip
    for _, event in events:
        if isinstance(event, dict):
            message.take(event)
    items: tuple[dict[str, Any], ...] = message.reply(set()).items
    return items


def grown(api: str, turns: int, size: int = 3000) -> History:
    provider = PROVIDERS[api]("m", KEY, "http://127.0.0.1:9")
    history = History(provider, "Be quick.", TOOLS, "key")
    history.say([provider.say("The prompt.")])
    for number in range(turns):
        items = replied(api, number, 1 + number % 3)
        history.reply(items)
        results = [ToolResult(call.id, "x" * size + f"\n[exit code {number}]") for call in provider.calls(items)]
        history.say(provider.answer(results))
    return history


def body(history: History) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(history.talk.request({"max": 1}))
    return found


@pytest.mark.parametrize("api", APIS)
def test_whatever_is_cut_no_call_is_without_its_result_and_the_prompt_stays(api: str) -> None:
    whole = len(grown(api, 12).talk)
    for size in range(500, whole, whole // 40):
        history = grown(api, 12)
        head = body(grown(api, 0))
        cut = history.cut(size)
        assert cut is not None
        assert cut.bytes == len(history.talk) < whole
        items = listed(body(history))
        answers = answers_of(items)
        assert calls_of(items) == [id_ for id_, _ in answers]
        assert items[: len(listed(head))] == listed(head)
        assert {key: value for key, value in body(history).items() if value != items} == {
            key: value for key, value in head.items() if value != listed(head)
        }
        if size > 12_000:  # below that the recent turns alone are longer
            assert cut.bytes <= size
        assert f"[exit code {11}]" in answers[-1][1]


@pytest.mark.parametrize("api", APIS)
def test_old_outputs_go_first_and_oldest_first_and_say_how_long_they_were(api: str) -> None:
    history = grown(api, 12)
    cut = history.cut(len(history.talk) // 2)
    assert cut is not None
    assert (cut.folded, len(history.turns)) == (0, 12)
    texts = [text for _, text in answers_of(listed(body(history)))]
    short = [len(text) < 400 for text in texts]
    assert short == sorted(short, reverse=True)
    assert texts[0] == "[3,014 characters left out to make room]\n[exit code 0]"
    assert not any(short[-RECENT:])


@pytest.mark.parametrize("api", APIS)
def test_what_was_cut_before_is_not_touched_by_the_next_cut(api: str) -> None:
    history = grown(api, 12)
    history.cut(len(history.talk) * 2 // 3)
    before = listed(body(history))
    changed = next(at for at, (a, b) in enumerate(zip(before, listed(body(grown(api, 12))), strict=True)) if a != b)
    history.cut(len(history.talk) * 2 // 3)
    after = listed(body(history))
    first = next(at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
    assert first > changed


@pytest.mark.parametrize("api", APIS)
def test_turns_that_go_leave_a_digest_in_which_what_judged_the_work_stays_longest(api: str) -> None:
    provider = PROVIDERS[api]("m", KEY, "http://127.0.0.1:9")
    history = History(provider, "Be quick.", TOOLS, "key")
    history.say([provider.say("The prompt.")])
    for number in range(60):
        items = json.loads(
            json.dumps(replied(api, number, 1)).replace('"bash"', '"commit"' if not number else '"bash"')
        )
        history.reply(tuple(items))
        text = "committed 123456" if not number else "y" * 300
        history.say(provider.answer([ToolResult(call.id, text) for call in provider.calls(items)]))
    size = len(history.talk)
    assert (cut := history.cut(size // 3)) is not None
    assert cut.folded > 30
    items = listed(body(history))
    digest = next(json.dumps(item) for item in items if "earlier replies of yours" in json.dumps(item))
    assert f"[{cut.folded} earlier" in digest
    assert "- commit" in digest
    assert "committed 123456" in digest
    assert len(history.talk) <= size // 3


@pytest.mark.parametrize("api", APIS)
def test_a_last_output_that_alone_is_too_long_keeps_its_head_and_its_tail(api: str) -> None:
    history = grown(api, 1, 15_000)
    assert history.cut(6000) is not None
    ((_, text),) = answers_of(listed(body(history)))
    assert 2000 < len(text) < 2100
    assert text.startswith("xxx")
    assert text.endswith("[exit code 0]")
    assert history.cut(10) is None  # nothing is left that could go


@pytest.mark.parametrize(
    ("said", "window"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested 5000", 4096),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200_000),
        ("input length and `max_tokens` exceed context limit: 190000 + 16384 > 200000", 200_000),
        ("The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)", 1_048_576),
        ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", 4096),
        ("Your input exceeds the context window of this model.", None),
        ("no", None),
    ],
)
def test_a_server_may_say_how_much_its_model_takes(said: str, window: int | None) -> None:
    assert window_said(said) == window


def working(turns: int, window: int | None, refusal: str = "too long: > {window} tokens") -> Callable[[Call], Step]:
    """A server that counts its input at four bytes a token and refuses what its window does not hold."""

    def step(call: Call) -> Step:
        text = json.dumps(call.body)
        most = next(value for key, value in call.body.items() if key.startswith("max_"))
        sent = len(text) // 4
        if window is not None and sent + most > window:
            return Fail(400, "context_length_exceeded", refusal.format(window=window))
        items = listed(call.body)
        left_out = sum(int(n) for n in re.findall(r"\[(\d+) earlier replies", text))
        done = left_out + sum(item.get("role") == "assistant" for item in items)
        if done == turns:
            return FINISH
        return Say(f"turn {done}", (("bash", {"command": f"seq {done} {done + 1500}"}),), usage=(sent, 0, 0, 20))

    return step


WINDOWS = [
    ("told by an option", {"context": "24000"}, "", 0),
    ("learnt from what the server says", {}, "prompt is too long: 1 tokens > {window} maximum", 1),
    ("learnt from the refusal alone", {}, "Your input exceeds the context window of this model.", 1),
]


@pytest.mark.parametrize(("how", "more", "refusal", "refused"), WINDOWS, ids=[row[0] for row in WINDOWS])
@pytest.mark.parametrize("api", APIS)
def test_a_long_attempt_stays_within_the_window(
    api: str, how: str, more: dict[str, str], refusal: str, refused: int, loopback: Loopback, attempt: Attempt
) -> None:
    ended = attempt(
        working(40, 24_000, refusal), api, {"steps": 100, "usd": 1000, "tokens": 10**8},
        model="some-model", max_output="2000", **more,
    )  # fmt: skip
    assert (ended.outcome.kind, ended.outcome.finish_called) == ("finished", True), ended.outcome
    assert ended.usage.steps == 40
    lines = [json.loads(line) for line in (ended.folder / "trajectory.jsonl").read_text().splitlines()]
    assert len([line for line in lines if line["kind"] == "failed"]) <= refused
    cuts = len([line for line in lines if "cut" in line])
    assert 2 <= cuts <= 20
    for call in loopback.calls:
        items = listed(call.body)
        assert calls_of(items) == [id_ for id_, _ in answers_of(items)]
        assert "Make distinct faster." in json.dumps(call.body)
    histories = [listed(call.body) for call in loopback.calls]
    kept = [after[: len(before)] == before for before, after in pairwise(histories)]
    assert kept.count(False) <= cuts  # only a cut changes what was sent before


@pytest.mark.parametrize("api", APIS)
def test_a_prompt_that_is_too_long_is_an_error_of_the_agent_after_one_call(
    api: str, loopback: Loopback, attempt: Attempt
) -> None:
    ended = attempt(working(3, 300), api)
    assert ended.outcome.kind == "agent_error"
    assert "longer than the model takes" in ended.outcome.detail
    assert len(loopback.calls) == 1
