"""What can go wrong with a provider, for each API: how it ends, how often it is tried, what it costs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.gateway.backoff import TRIES
from tests.agents.conftest import APIS, KEY, Attempt, answers_of, calls_of, listed
from tests.agents.loopback import Fail, Loopback, Raw, Say, Step
from tests.conftest import FAST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOK = Say("I look.", (("bash", {"command": "true"}),))
EDIT = Say("", (("edit", {"command": "create", "path": "toy/order.py", "text": FAST}),))
FINISH = Say("Done.", (("finish", {"summary": "done"}),))
A_DAY = 86_400


def dated(seconds: float) -> dict[str, str]:
    return {"retry-after": formatdate(time.time() + seconds, usegmt=True)}


@dataclass(frozen=True)
class Row:
    """What the server does after an edit, and what must come of it; `calls` are those after the edit's."""

    what: str
    steps: list[Step]
    kind: str
    infra: str | None = None
    calls: int = 1
    paid: int = 0  # calls, beside the edit's, whose usage the server said


FOR_EVER = TRIES + 2
ROWS = [
    Row("401", [Fail(401, "authentication_error")] * 2, "infra_error", "auth"),
    Row("403", [Fail(403, "permission_error")] * 2, "infra_error", "auth"),
    Row("404 model", [Fail(404, "not_found_error", "model: nope")] * 2, "infra_error", "protocol"),
    Row("429 once, with retry-after", [Fail(429, "rate_limit_error", headers={"retry-after": "0.1"}), FINISH, FINISH],
        "finished", None, 3, 2),
    Row("429 for ever", [Fail(429, "rate_limit_error")] * FOR_EVER, "infra_error", "throttled", TRIES),
    Row("429 with a long retry-after", [Fail(429, "rate_limit_error", headers={"retry-after": "3600"})] * 2,
        "infra_error", "throttled"),
    Row("429 of quota", [Fail(429, "insufficient_quota")] * 2, "infra_error", "quota"),
    Row("clock skew: retry-after in the past", [Fail(429, "rate_limit_error", headers=dated(-A_DAY)), FINISH, FINISH],
        "finished", None, 3, 2),
    Row("clock skew: retry-after in the far future", [Fail(429, "rate_limit_error", headers=dated(A_DAY))] * 2,
        "infra_error", "throttled"),
    Row("500 once", [Fail(500, "api_error"), FINISH, FINISH], "finished", None, 3, 2),
    Row("500 for ever", [Fail(500, "api_error")] * FOR_EVER, "infra_error", "network", TRIES),
    Row("529 for ever", [Fail(529, "overloaded_error")] * FOR_EVER, "infra_error", "throttled", TRIES),
    Row("reset in mid-stream once", [Say("I look.", LOOK.calls, cut=True), FINISH, FINISH], "finished", None, 3, 2),
    Row("reset in mid-stream for ever", [Say("I look.", LOOK.calls, cut=True)] * FOR_EVER, "infra_error", "network",
        TRIES),
    Row("empty content twice", [Say(), Say()], "finished", None, 2, 2),
    Row("unknown tool", [Say("", (("fly", {}),)), FINISH, FINISH], "finished", None, 3, 3),
    Row("arguments not JSON", [Say("", (("bash", '{"command": "l'),)), FINISH, FINISH], "finished", None, 3, 3),
    Row("arguments not an object", [Say("", (("bash", "[1]"),)), FINISH, FINISH], "finished", None, 3, 3),
    Row("too long twice", [Fail(400, "context_length_exceeded")] * 3, "agent_error", None, 1),
    Row("content filter", [Say("I must not.", stop="refusal")], "agent_error", None, 1, 1),
    Row("content filter of the server", [Fail(400, "content_filter", "blocked by content filtering")], "agent_error"),
    Row("an error in the stream for ever", [Say("I", trouble="overloaded_error")] * FOR_EVER, "infra_error",
        "throttled", TRIES),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
@pytest.mark.parametrize("api", APIS)
def test_a_fault(api: str, row: Row, loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt([EDIT, *row.steps], api)
    assert (ended.outcome.kind, ended.outcome.infra_kind) == (row.kind, row.infra), ended.outcome
    assert len(loopback.calls) == 1 + row.calls
    assert "dict.fromkeys" in ended.patch
    wrote = [json.loads(line) for line in (ended.folder / "trajectory.jsonl").read_text().splitlines()]
    replies = [line for line in wrote if line["kind"] == "reply"]
    estimated = [line["tokens"] for line in wrote if line["kind"] == "failed" and "tokens" in line]
    assert len(replies) == 1 + row.paid
    used = ended.usage
    assert used.output_tokens == 20 * len(replies) + sum(tokens["output"] for tokens in estimated)
    rates = (4, 0.2, 5, 20) if api == "anthropic" else (2, 0.1, 2.5, 10)
    counts = [(100, 40, 10, 20)] * len(replies)
    counts += [(t["input"], t["cache_read"], t["cache_write"], t["output"]) for t in estimated]
    usd = sum(count * rate for each in counts for count, rate in zip(each, rates, strict=True)) / 1e6
    assert used.usd == pytest.approx(usd)
    if not any(isinstance(step, Say) and (step.cut or step.trouble) for step in row.steps):
        assert not estimated  # a refusal costs nothing
    for call in loopback.calls:
        items = listed(call.body)
        assert [id_ for id_, _ in answers_of(items)] == calls_of(items)
    assert_no_key(ended.folder)


def raw(api: str, *, whole: bool) -> Raw:
    """A stream that ends too early, or one of what is not JSON."""
    if not whole:
        return Raw((("message_start" if api == "anthropic" else "", '{"type": "mess'),))
    first: dict[str, Any] = {"type": "response.created", "response": {}}
    if api == "anthropic":
        first = {"type": "message_start", "message": {"model": "m"}}
    if api == "chat":
        first = {"choices": [{"delta": {"content": "I"}}]}
    return Raw(((first.get("type", ""), first),))


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_is_truncated_is_tried_again_within_bounds(
    api: str, loopback: Loopback, attempt: Attempt
) -> None:
    ended = attempt(repeat(raw(api, whole=True)), api)
    assert (ended.outcome.kind, ended.outcome.infra_kind) == ("infra_error", "network")
    assert len(loopback.calls) == TRIES


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_is_no_json_is_what_no_second_try_mends(api: str, loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt(repeat(raw(api, whole=False)), api)
    assert (ended.outcome.kind, ended.outcome.infra_kind) == ("infra_error", "protocol"), ended.outcome
    assert len(loopback.calls) == 1
    assert ended.usage.usd == 0


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
@pytest.mark.parametrize("api", APIS)
def test_a_page_in_place_of_a_stream_is_named_and_not_asked_for_again(
    api: str, kind: str, loopback: Loopback, attempt: Attempt
) -> None:
    ended = attempt(repeat(Fail(200, headers={"content-type": kind})), api)
    assert (ended.outcome.kind, ended.outcome.infra_kind) == ("infra_error", "protocol"), ended.outcome
    assert f"the server answered with {kind.split(';')[0]}, not with a stream of events" in ended.outcome.detail
    assert len(loopback.calls) == 1
    assert ended.usage.usd == 0


@pytest.mark.parametrize("api", APIS)
def test_a_server_that_is_not_there(api: str, loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt([], api, url="http://127.0.0.1:9")
    assert (ended.outcome.kind, ended.outcome.infra_kind) == ("infra_error", "network")
    assert not loopback.calls
    assert ended.usage.usd == 0


@pytest.mark.parametrize("how", [{"stall": 30.0}, {"pings": 30.0}], ids=str)
@pytest.mark.parametrize("api", APIS)
def test_a_reply_that_stalls_ends_with_the_minutes(
    api: str, how: dict[str, float], loopback: Loopback, attempt: Attempt
) -> None:
    started = time.monotonic()
    ended = attempt([EDIT, Say("I look.", LOOK.calls, **how)], api, {"minutes": 0.03})  # type: ignore[arg-type]
    assert (ended.outcome.kind, len(loopback.calls)) == ("budget", 2)
    assert time.monotonic() - started < 15
    assert "dict.fromkeys" in ended.patch


def twice(api: str) -> Raw:
    """Two calls of one id in a reply."""
    if api == "anthropic":
        events: list[dict[str, Any]] = [{"type": "message_start", "message": {"model": "m"}}]
        for index, word in enumerate(("one", "two")):
            block = {"type": "tool_use", "id": "same", "name": "bash", "input": {"command": f"echo {word}"}}
            events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]
        return Raw(tuple((event["type"], event) for event in events))
    arguments = [json.dumps({"command": f"echo {word}"}) for word in ("one", "two")]
    if api == "responses":
        made = {"type": "function_call", "call_id": "same", "name": "bash", "status": "completed"}
        whole = {"status": "completed", "model": "m", "output": [{**made, "arguments": text} for text in arguments]}
        return Raw((("response.completed", {"type": "response.completed", "response": whole}),))
    calls = [
        {"index": index, "id": "same", "function": {"name": "bash", "arguments": text}}
        for index, text in enumerate(arguments)
    ]
    choice = {"delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    return Raw((("", {"model": "m", "choices": [choice]}), ("", "[DONE]")))


@pytest.mark.parametrize("api", APIS)
def test_calls_of_one_id_in_a_reply_and_later_are_each_answered_once(
    api: str, loopback: Loopback, attempt: Attempt
) -> None:
    ended = attempt([twice(api), twice(api), FINISH], api)
    assert ended.outcome.kind == "finished"
    items = listed(loopback.calls[-1].body)
    assert calls_of(items) == ["same", "same_2", "same_3", "same_4"]
    answers = answers_of(items)
    assert [id_ for id_, _ in answers] == calls_of(items)
    assert [text.splitlines()[0] for _, text in answers] == ["one", "two"] * 2


@pytest.mark.parametrize("api", APIS)
def test_calls_after_finish_are_answered_and_not_done(api: str, loopback: Loopback, attempt: Attempt) -> None:
    touch = ("bash", {"command": "touch toy/late.py"})
    ended = attempt([Say("", (*LOOK.calls, *FINISH.calls, *FINISH.calls, touch))], api)
    assert (ended.outcome.kind, ended.outcome.finish_called) == ("finished", True)
    assert len(loopback.calls) == 1
    assert ended.patch == ""
    assert ended.usage.steps == 1
    last = [json.loads(line) for line in (ended.folder / "trajectory.jsonl").read_text().splitlines()][-1]
    assert last["kind"] == "finished"
    texts = [text for _, text in answers_of(last["items"])]
    assert [text.split(":")[0] for text in texts[1:]] == ["done", "Nothing was done", "Nothing was done"]
    assert len({id_ for id_, _ in answers_of(last["items"])}) == 4


@pytest.mark.parametrize("api", APIS)
def test_parallel_calls_are_done_in_order_and_answered_in_order(api: str, loopback: Loopback, attempt: Attempt) -> None:
    calls = tuple(("bash", {"command": f"echo {n} >> /tmp/order; cat /tmp/order"}) for n in range(8))
    attempt([Say("", calls), FINISH], api)
    items = listed(loopback.calls[1].body)
    answers = answers_of(items)
    assert [id_ for id_, _ in answers] == calls_of(items)
    assert [text.splitlines()[:-1] for _, text in answers] == [[str(n) for n in range(k + 1)] for k in range(8)]


def test_an_edit_by_a_command_is_an_edit(loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt([LOOK, Say("", (("bash", {"command": "echo '# x' >> toy/order.py"}),)), FINISH, FINISH])
    assert "+# x" in ended.patch
    assert ended.usage.seconds_to_first_edit is not None
    assert attempt([LOOK, FINISH], name="attempt.2").usage.seconds_to_first_edit is None


LIMITS = [
    ("0.01 USD", {"usd": 0.01}, "USD", {"max_output": "200"}),
    ("1,000 tokens", {"tokens": 1000}, "tokens", {"max_output": "200"}),  # the first request alone is longer
    ("3,000 tokens", {"tokens": 3000}, "tokens", {"max_output": "200"}),
    ("3 steps", {"steps": 3}, "steps", {}),
    ("20 s", {"minutes": 1 / 3}, "minutes", {}),
]


@pytest.mark.parametrize(("what", "limits", "named", "more"), LIMITS, ids=[row[0] for row in LIMITS])
@pytest.mark.parametrize("api", APIS)
def test_a_small_budget_ends_within_one_exchange_and_keeps_what_was_done(
    api: str, what: str, limits: dict[str, Any], named: str, more: dict[str, str], loopback: Loopback,
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    now, slept = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now() + slept)

    def script() -> Iterator[Step]:
        nonlocal slept
        yield Say("", (*EDIT.calls, ("commit", {"message": "a dict"})), usage=(100, 0, 0, 50))
        while True:
            slept += 7.0 if named == "minutes" else 0.0  # each reply took so long
            yield Say("", LOOK.calls, usage=(100, 0, 0, 50))

    ended = attempt(script(), api, limits, **more)
    assert ended.outcome.kind == "budget"
    assert named in ended.outcome.detail
    made = "1,000" not in what
    assert ("dict.fromkeys" in ended.patch) is made
    used, steps = ended.usage, {"steps": 3}.get(named)
    assert used.usd is not None
    assert used.usd <= limits.get("usd", 5)
    assert used.input_tokens + used.output_tokens <= limits.get("tokens", 10**9)
    assert steps is None or used.steps == steps
    if named == "minutes":
        assert len(loopback.calls) <= 4  # 7, 14, 21 s
    assert len(loopback.calls) >= 2 * made


def assert_no_key(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
