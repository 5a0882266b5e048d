"""What is sent again begins with what was sent before, and what a server that keeps prefixes would bill for it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents.conftest import APIS, KEY, Attempt, listed
from tests.agents.loopback import Fail, Loopback, Say
from tests.agents.test_history import PROVIDERS, working

if TYPE_CHECKING:
    from omniperf.agents.providers.protocol import Provider

FINISH = Say("Done.", (("finish", {"summary": "done"}),))
LIMITS = {"steps": 1000, "usd": 1000, "tokens": 10**8}
Body = dict[str, Any]


def turns(count: int, calls: int) -> list[Say]:
    bash = tuple(("bash", {"command": f"seq {n} 300"}) for n in range(calls))
    return [*(Say(f"turn {n}", bash, thinking="hm") for n in range(count)), FINISH]


@pytest.mark.parametrize("api", APIS)
def test_over_a_long_conversation_each_request_is_the_last_one_and_more(
    api: str, loopback: Loopback, attempt: Attempt
) -> None:
    attempt(turns(60, 3), api, LIMITS)
    bodies = [call.body for call in loopback.calls]
    assert len(bodies) == 61
    for before, after in pairwise(bodies):
        old, new = listed(before), listed(after)
        assert new[: len(old)] == old
        assert len(new) > len(old)
    growing = "input" if api == "responses" else "messages"
    rest = [json.dumps({name: value for name, value in body.items() if name != growing}) for body in bodies]
    assert len(set(rest)) == 1  # instructions, tools, the key of the cache
    keys = {body.get("prompt_cache_key") for body in bodies}
    assert len(keys) == 1
    assert (keys == {None}) is (api == "anthropic")


def test_each_attempt_has_a_key_of_its_own_which_is_the_same_when_it_is_run_again(
    loopback: Loopback, attempt: Attempt
) -> None:
    keys = []
    for name in ("a/attempt.1", "b/attempt.1", "a/attempt.2"):
        attempt([FINISH], "responses", name=name)
        keys.append(loopback.calls[0].body["prompt_cache_key"])
    assert keys[0] == keys[1] != keys[2]


def test_a_server_that_takes_no_key_for_its_cache_is_asked_without(loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt([Fail(400, message="Extra inputs are not permitted: prompt_cache_key"), FINISH], "chat")
    assert ended.outcome.kind == "finished"
    assert ["prompt_cache_key" in call.body for call in loopback.calls] == [True, False]


LOOKBACK, LEAST = 20, 1024  # blocks before a mark in which a kept prefix is found; tokens of the shortest that is kept


def blocks(body: Body) -> list[tuple[str, bool]]:
    """A request as the cache sees it: its blocks in order, and which of them are marked."""
    found = [("tools" + json.dumps(body["tools"]), False)]
    lists = [body["system"], *(message["content"] for message in body["messages"])]
    for block in (block for each in lists for block in each):
        plain = {name: value for name, value in block.items() if name != "cache_control"}
        found.append((json.dumps(plain), "cache_control" in block))
    if "cache_control" in body:  # of the request: a mark on its last block
        found[-1] = (found[-1][0], True)
    return found


def billed(bodies: list[Body]) -> float:
    """Input in units of the uncached price, by Anthropic's rules: reads cost 0.1 and writes 1.25 of it."""
    kept: set[int] = set()
    total = 0.0
    for body in bodies:
        parts = blocks(body)
        sizes, prefixes, text = [0], [hash("")], ""
        for part, _ in parts:
            text += part
            sizes.append(len(text) // 4)
            prefixes.append(hash(text))
        marks = [at + 1 for at, (_, marked) in enumerate(parts) if marked]
        assert 1 <= len(marks) <= 4
        reads = [at for mark in marks for at in range(mark, max(0, mark - LOOKBACK), -1) if prefixes[at] in kept]
        read, wrote = sizes[max(reads, default=0)], sizes[max(marks)]
        kept |= {prefixes[mark] for mark in marks if sizes[mark] >= LEAST}
        total += 0.1 * read + 1.25 * max(0, wrote - read) + (sizes[-1] - max(read, wrote))
    return total


def with_one_mark(body: Body) -> Body:
    """The same request with the mark that the API itself places, at its end."""
    plain = json.loads(json.dumps(body).replace(', "cache_control": {"type": "ephemeral"}', ""))
    assert "cache_control" not in json.dumps(plain)
    return {**plain, "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("what", "calls", "more", "least"),
    [("one call a turn", 1, {}, 1.0), ("twelve calls a turn", 12, {}, 5.0),
     ("cut now and then", 0, {"context": "24000"}, 1.0)],
)  # fmt: skip
def test_the_marks_cost_no_more_than_one_at_the_end_and_far_less_where_a_turn_has_many_calls(
    what: str, calls: int, more: dict[str, str], least: float, loopback: Loopback, attempt: Attempt
) -> None:
    script = turns(30, calls) if calls else working(40, 24_000)
    attempt(script, "anthropic", LIMITS, max_output="2000", **more)
    bodies = [call.body for call in loopback.calls]
    ours, theirs = billed(bodies), billed([with_one_mark(body) for body in bodies])
    uncached = sum(sum(len(part) // 4 for part, _ in blocks(body)) for body in bodies)
    shown = f"{what}: {ours:,.0f} with four marks, {theirs:,.0f} with one, {uncached:,.0f} without a cache"
    assert theirs / ours >= least, shown
    assert ours < 0.4 * uncached, shown


EFFORTS = {
    "anthropic": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
    "responses": {"reasoning": {"effort": "high"}},
    "chat": {"reasoning_effort": "high"},
}


@pytest.mark.parametrize("api", APIS)
def test_how_much_to_think_is_said_as_each_api_wants_it_and_not_unasked(
    api: str, loopback: Loopback, attempt: Attempt
) -> None:
    for given in ("", "high"):
        attempt([*turns(2, 1)], api, **({"effort": given} if given else {}))
        for call in loopback.calls:
            said = {name: call.body[name] for name in EFFORTS[api] if name in call.body}
            assert said == (EFFORTS[api] if given else {})
    thoughts = [item for item in listed(loopback.calls[-1].body) if '"hm"' in json.dumps(item)]
    assert len(thoughts) == (0 if api == "chat" else 2)  # the scripted server has no thoughts for Chat


@pytest.mark.parametrize(("effort", "tokens"), [("low", 2048), ("medium", 8192), ("high", 8192)])
def test_a_model_that_knows_no_adaptive_thinking_is_given_a_number(
    effort: str, tokens: int, loopback: Loopback, attempt: Attempt
) -> None:
    refusal = Fail(400, message="adaptive thinking is not supported on this model")
    ended = attempt([refusal, *turns(1, 1)], "anthropic", effort=effort)
    assert ended.outcome.kind == "finished"
    assert [call.body["thinking"].get("budget_tokens") for call in loopback.calls] == [None, tokens, tokens]


def test_thoughts_that_are_withheld_go_back_as_they_came(loopback: Loopback) -> None:
    from tests.agents.loopback import Raw

    hidden = {"type": "redacted_thinking", "data": "ciphertext"}
    signed = {"type": "thinking", "thinking": "", "signature": ""}
    events: list[Body] = [
        {"type": "message_start", "message": {"model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": hidden},
        {"type": "content_block_start", "index": 1, "content_block": signed},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "signature_delta", "signature": "signed"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    loopback.play([Raw(tuple((event["type"], event) for event in events))])
    provider: Provider = PROVIDERS["anthropic"]("m", KEY, loopback.url)
    from omniperf.agents.toolset import TOOLS

    talk = provider.begin("Be quick.", TOOLS)
    talk.add([provider.say("Go.")])
    (item,) = provider.send(talk, 1000, 10).items
    assert item["content"] == [hidden, {**signed, "signature": "signed"}]
