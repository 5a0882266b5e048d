"""The agents with a model: real SDKs over real HTTP to a scripted server, real tools in the real sandbox."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents import models
from omniperf.agents.models import OpenAIAgent
from omniperf.errors import InfraError, UsageError
from omniperf.gateway import backoff
from omniperf.record import AttemptSpec
from omniperf.results.events import Event, ignore
from omniperf.results.schema import Result
from omniperf.results.store import read_lines
from omniperf.sweep.run import run_task
from tests.agents.loopback import Fail, Loopback, Say, Step
from tests.conftest import FAST, SLOW

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

KEY = "sk-secret-0123456789"
APIS = ("anthropic", "responses", "chat")
QUICK = "measure: {max_minutes: 0.2}"  # where the measured verdict does not matter
LOOP = SLOW[SLOW.index("    seen = []") :]
EDIT = ("edit", {"command": "str_replace", "path": "toy/order.py", "old": LOOP, "new": FAST[SLOW.index(LOOP) :]})
FINISH = Say("Done.", (("finish", {"summary": "a dict keeps the order"}),))


def bash(command: str) -> tuple[str, dict[str, str]]:
    return "bash", {"command": command}


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(backoff, "FIRST_WAIT", 0.01)


def options(server: Loopback, api: str, **more: str) -> dict[str, str]:
    if api == "anthropic":
        return {"model": "claude-opus-5-5", "base_url": server.url, **more}
    return {"model": "gpt-6.2-sol", "base_url": f"{server.url}/v1", "api": api, **more}


Go = Callable[..., tuple[Path, Result]]


@pytest.fixture
def go(server: Loopback, make_task: Callable[..., Task], settings: Settings, bubblewrap: None) -> Go:
    """Run one attempt on the toy task against a script; `extra` is YAML of the task."""

    def run(
        script: Any, api: str = "chat", extra: str = QUICK, listen: Any = ignore, **more: str
    ) -> tuple[Path, Result]:
        server.play(script)
        agent = "anthropic" if api == "anthropic" else "openai"
        spec = AttemptSpec(run_id="", agent=agent, n=0, options=options(server, api, **more))
        folder, results = run_task(make_task(extra), spec, 1, settings, listen)
        return folder / "toy" / f"{agent}.1", results[0]

    return run


def told(server: Loopback, turn: int) -> list[str]:
    """What the model was told about its calls, in the request of that turn (0: the first, with the prompt alone)."""
    body = server.calls[turn].body
    texts = []
    for item in body.get("messages") or body["input"]:
        if item.get("type") == "function_call_output":
            texts.append(item["output"])
        elif item.get("role") == "tool":
            texts.append(item["content"])
        elif isinstance(item.get("content"), list):
            texts += [block["content"] for block in item["content"] if block.get("type") == "tool_result"]
    return texts


@pytest.mark.parametrize("api", APIS)
def test_a_model_explores_edits_benchmarks_commits_and_finishes(api: str, server: Loopback, go: Go) -> None:
    view = ("edit", {"command": "view", "path": "toy/order.py", "lines": [4, 6]})
    script = [
        Say("I look.", (bash("ls toy; env"), view), thinking="hm"),
        Say("", (("profile", {}), EDIT), thinking="aha"),
        Say("", (("test", {}), ("benchmark", {}))),
        Say("", (("commit", {"message": "use a dict"}),)),
        FINISH,
    ]
    folder, result = go(script, api, extra="")
    assert (result.outcome.kind, result.outcome.finish_called, result.outcome.detail) == ("finished", True, "")
    assert result.verdict.class_ == "improved"
    assert "+    return list(dict.fromkeys(items))" in (folder / "model_patch.diff").read_text()
    assert result.patch is not None
    assert (result.patch.source, result.patch.added, result.patch.removed) == ("final", 1, 5)
    assert result.identity.model == "a-model-2026-11-01"
    assert result.identity.label == ("anthropic" if api == "anthropic" else "openai")

    usage = result.usage
    assert usage.steps == 7
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens) == (5 * 150, 5 * 40, 5 * 10)
    assert usage.output_tokens == 5 * 20
    rates = (4, 0.2, 5, 20) if api == "anthropic" else (2, 0.1, 2.5, 10)
    assert usage.usd == pytest.approx(5 * sum(n * rate for n, rate in zip((100, 40, 10, 20), rates, strict=True)) / 1e6)

    listing, source = told(server, 1)
    assert "order.py" in listing
    assert source == "     4\tdef distinct(items):\n     5\t    seen = []\n     6\t    for item in items:"
    assert KEY not in listing
    assert "order.py:4 distinct" in told(server, 2)[2]
    assert told(server, 3)[4].startswith("passed")
    assert "Screening, not a verdict: faster" in told(server, 3)[5]


@pytest.mark.parametrize("api", APIS)
def test_every_request_is_the_last_one_and_what_came_since(api: str, server: Loopback, go: Go) -> None:
    go([Say("one", (bash("echo 1"),), thinking="hm"), Say("two", (bash("echo 2"), bash("echo 3"))), FINISH], api)
    growing = "input" if api == "responses" else "messages"
    histories = [call.body[growing] for call in server.calls]
    assert len(histories) == 3
    for before, after in pairwise(histories):
        assert after[: len(before)] == before
    assert "Speed up distinct" in json.dumps(histories[0])
    if api == "anthropic":  # reasoning goes back as it came, or the API refuses
        assert histories[1][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "sig"}
        assert [block["type"] for block in histories[2][4]["content"]] == ["tool_result", "tool_result"]
    if api == "responses":
        assert histories[1][1]["encrypted_content"] == "hm"
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    assert all(call.headers["content-type"] == "application/json" for call in server.calls)


def test_the_trajectory_holds_every_request_and_reply_once(server: Loopback, go: Go) -> None:
    folder, _ = go([Say("one", (bash("echo 1"),)), Fail(429, "rate_limit_exceeded"), FINISH], "chat")
    lines = list(read_lines(folder / "trajectory.jsonl"))
    assert [line["kind"] for line in lines] == [
        "conversation",
        "request",
        "reply",
        "request",
        "failed",
        "request",
        "reply",
        "finished",
    ]
    sent = [item for line in lines if line["kind"] == "request" for item in line["items"]]
    replied = [item for line in lines if line["kind"] == "reply" for item in line["items"]]
    last = server.calls[-1].body["messages"]
    assert [item for item in last if item["role"] in ("user", "tool")] == sent
    assert [item for item in last if item["role"] == "assistant"] == replied[:-1]


def test_a_good_commit_is_kept_when_what_comes_after_is_worse(server: Loopback, go: Go) -> None:
    script = [
        Say("", (EDIT, ("benchmark", {}), bash("git commit -qam 'a dict'"), SLOWER)),
        Say("", (("commit", {"message": "worse"}), ("finish", {"summary": "better and better"}))),
        FINISH,
    ]
    folder, result = go(script, extra="")
    assert result.patch is not None
    assert result.patch.source == "best"
    assert result.verdict.class_ == "improved"
    assert "items.index" not in (folder / "model_patch.diff").read_text()
    assert "items.index" in (folder / "model_patch.final.diff").read_text()


BREAK = ("edit", {"command": "create", "path": "toy/order.py", "text": "def distinct(items):\n    return items\n"})
SLOWER = (
    "edit",
    {"command": "insert", "path": "toy/order.py", "line": 4, "text": "    items = sorted(items, key=items.index)"},
)
OUTSIDE = ("edit", {"command": "create", "path": "tests/test_order.py", "text": ""})


@pytest.mark.parametrize(
    ("what", "calls", "verdict", "extra"),
    [
        ("edits nothing", (bash("cat toy/order.py"),), "no_patch", QUICK),
        ("breaks the function", (BREAK,), "incorrect", QUICK),
        ("makes it slower", (SLOWER,), "regressed", ""),
        ("edits what it must not", (EDIT, OUTSIDE), "rejected", QUICK),
    ],
)
def test_what_a_model_does_badly(what: str, calls: tuple[Any, ...], verdict: str, extra: str, go: Go) -> None:
    _, result = go([Say(calls=calls), FINISH, FINISH], extra=extra)
    assert result.outcome.kind == "finished"
    assert result.verdict.class_ == verdict, result.verdict.reason


LOOK = Say("I look.", (bash("true"),))
STOPS = [
    ("it ends without finishing", [LOOK, Say("I am done."), Say("Really.")], "finished", "no tool twice", 3),
    ("a nudge helps", [Say("Hello!"), LOOK, Say("Hm."), FINISH], "finished", "", 4),
    ("it answers with nothing", [Say(), Say(), FINISH], "finished", "no tool twice", 2),
    ("it refuses", [Say("I cannot help.", stop="refusal")], "agent_error", "refused", 1),
    ("it is cut off at its longest", [Say("I will", stop="length"), FINISH], "finished", "", 2),
    ("the conversation is too long", [LOOK, Fail(400, "context_length_exceeded")], "agent_error", "longer than", 2),
    ("the stream is cut", [Say("I look.", (bash("true"),), cut=True), FINISH], "finished", "", 2),
    ("it is throttled", [Fail(429, "rate_limit_error", headers={"retry-after": "0"}), FINISH], "finished", "", 2),
    ("the server is overloaded in the stream", [Say("I", trouble="overloaded_error"), FINISH], "finished", "", 2),
]  # fmt: skip


@pytest.mark.parametrize(("what", "script", "kind", "detail", "calls"), STOPS, ids=[row[0] for row in STOPS])
@pytest.mark.parametrize("api", APIS)
def test_how_a_conversation_can_go(
    api: str, what: str, script: list[Step], kind: str, detail: str, calls: int, server: Loopback, go: Go
) -> None:
    folder, result = go(script, api)
    assert result.outcome.kind == kind, result.outcome
    assert detail in result.outcome.detail
    assert (result.outcome.detail == "") == (detail == "")
    assert len(server.calls) == calls
    assert not (folder / "logs").exists()


def test_a_provider_that_fails_is_no_failure_of_the_agent(server: Loopback, go: Go) -> None:
    fail = Fail(401, "invalid_api_key", "Incorrect key: {authorization}")
    folder, result = go([Say(calls=(EDIT,)), fail])  # what each API makes of each fault is in test_faults.py
    assert (result.outcome.kind, result.outcome.infra_kind, result.outcome.phase) == ("infra_error", "auth", "agent")
    assert result.outcome.detail.count("\n") == 0
    assert "dict.fromkeys" in (folder / "model_patch.diff").read_text()  # what was done is kept, unmeasured
    assert result.verdict.class_ == "unverified"
    assert_no_key(folder)


def test_the_best_commit_is_kept_where_a_provider_ends_the_attempt(server: Loopback, go: Go) -> None:
    calls = (EDIT, ("benchmark", {}), bash("git commit -qam 'a dict'"), SLOWER)
    folder, result = go([Say("", calls), Fail(401, "invalid_api_key", "no")], extra="")
    assert (result.outcome.kind, result.verdict.class_) == ("infra_error", "unverified")
    assert "items.index" in (folder / "model_patch.diff").read_text()
    assert "items.index" not in (folder / "model_patch.best.diff").read_text()


LIMITS = [
    ("steps", "limits: {steps: 3}", {}, "limit of 3 steps is reached"),
    ("tokens", "limits: {tokens: 30000}", {}, "limit of 30,000 tokens could be passed by the next call"),
    ("USD", "limits: {usd: 0.4}", {"model": "claude-opus-5-5"}, "limit of 0.4 USD could be passed by the next call"),
    ("minutes", "limits: {minutes: 0.05}", {}, "limit of 0.05 minutes is reached"),
]


@pytest.mark.parametrize(("limit", "extra", "more", "detail"), LIMITS, ids=[row[0] for row in LIMITS])
def test_a_model_that_never_stops_runs_into_a_limit_which_is_named(
    limit: str, extra: str, more: dict[str, str], detail: str, server: Loopback, go: Go
) -> None:
    script = repeat(Say("again", (bash("sleep 0.3" if limit == "minutes" else "true"),), usage=(500, 0, 0, 4000)))
    _, result = go(script, "anthropic" if more else "chat", extra=f"{extra}\n{QUICK}", **more)
    assert result.outcome.kind == "budget"
    assert detail in result.outcome.detail
    assert result.usage.steps >= 1
    if limit == "tokens":
        assert result.usage.input_tokens + result.usage.output_tokens <= 30000
    if limit == "USD":
        assert result.usage.usd is not None
        assert 0 < result.usage.usd <= 0.4


SLOW_REPLIES = [
    ("it stalls", "chat", Say("I look.", (bash("true"),), stall=60.0)),
    ("it sends only pings", "anthropic", Say("I look.", (bash("true"),), pings=60.0)),
]


@pytest.mark.parametrize(("what", "api", "reply"), SLOW_REPLIES, ids=[row[0] for row in SLOW_REPLIES])
def test_minutes_that_run_out_in_a_call_are_a_limit_and_what_was_done_is_verified(
    what: str, api: str, reply: Say, server: Loopback, go: Go
) -> None:
    done = Say("", (EDIT, ("commit", {"message": "use a dict"})))
    folder, result = go([done, reply, FINISH], api, extra=f"limits: {{minutes: 0.1}}\n{QUICK}")
    assert (result.outcome.kind, result.outcome.infra_kind) == ("budget", None)
    assert "limit of 0.1 minutes is reached" in result.outcome.detail
    assert result.verdict.class_ != "unverified", result.verdict.reason
    assert "dict.fromkeys" in (folder / "model_patch.diff").read_text()
    assert len(server.calls) == 2


def test_a_throttled_call_is_waited_for_and_the_minutes_are_not_spent_by_that(server: Loopback, go: Go) -> None:
    wait = Fail(429, "rate_limit_error", headers={"retry-after": "3"})
    _, result = go([LOOK, wait, FINISH], extra=f"limits: {{minutes: 0.045}}\n{QUICK}")  # 2.7 s
    assert result.outcome.kind == "finished", result.outcome


def test_a_reply_that_breaks_off_is_paid_for_and_each_try_sees_it(server: Loopback, go: Go) -> None:
    text = "word " * 12_000
    folder, result = go([LOOK, *[Say(text, (bash("true"),), cut=True)] * 2, FINISH], "chat", max_output="30000")
    failed = [line for line in read_lines(folder / "trajectory.jsonl") if line["kind"] == "failed"]
    assert [line["estimated"] for line in failed] == [True, True]
    sent, output = failed[0]["tokens"]["input"], failed[0]["tokens"]["output"]
    assert sent > 150  # what the reply before had counted, and what was added since
    assert 20_000 <= output <= 20_010  # the text and a part of the call, at three bytes a token
    assert result.usage.input_tokens == 2 * 150 + 2 * sent
    assert result.usage.output_tokens == 2 * 20 + 2 * output
    known = 2 * (100 * 2 + 40 * 0.1 + 10 * 2.5 + 20 * 10)
    assert result.usage.usd == pytest.approx((known + 2 * (sent * 2 + output * 10)) / 1e6)


def test_replies_that_break_off_do_not_pass_the_limit_of_usd(server: Loopback, go: Go) -> None:
    broken = Say("word " * 30_000, (bash("true"),), cut=True)
    _, result = go(repeat(broken), "anthropic", extra=f"limits: {{usd: 0.8}}\n{QUICK}")
    assert result.outcome.kind == "budget"
    assert "0.8 USD could be passed by the next call" in result.outcome.detail
    assert result.usage.usd is not None
    assert result.usage.usd == pytest.approx(2 * 16_384 * 20 / 1e6, abs=0.01)  # a reply is no longer than was asked for
    assert len(server.calls) == 2


def test_each_reply_is_priced_as_the_model_that_gave_it(server: Loopback, go: Go) -> None:
    used = (1_000_000, 0, 0, 0)
    names = ("claude-opus-5-5", "claude-haiku-5-5", "claude-opus-5-5", "claude-haiku-5-5")
    script = [Say("", LOOK.calls if n < 3 else FINISH.calls, usage=used, model=name) for n, name in enumerate(names)]
    extra = f"limits: {{usd: 1000, tokens: 1000000000}}\n{QUICK}"
    _, result = go(script, "anthropic", extra=extra)
    assert result.usage.usd == pytest.approx(4 + 0.5 + 4 + 0.5)
    assert result.identity.model == "claude-opus-5-5, claude-haiku-5-5"


def test_a_reservation_holds_for_the_dearest_model_that_has_answered(server: Loopback, go: Go) -> None:
    cheap = Say("", LOOK.calls, usage=(300_000, 0, 0, 0), model="claude-haiku-5-5")
    dear = Say("", LOOK.calls, usage=(300_000, 0, 0, 0), model="claude-opus-5-5")
    _, result = go(
        [dear, cheap, dear, dear], "anthropic", extra=f"limits: {{usd: 3.1}}\n{QUICK}", model="claude-haiku-5-5"
    )
    assert len(server.calls) == 2  # 1.2 + 0.15 USD are used; opus may write 300,000 tokens to a cache for 1.5 more
    assert result.outcome.kind == "budget"
    assert result.usage.usd == pytest.approx(1.35)


def test_a_request_that_outgrows_the_known_prices_ends_the_attempt(server: Loopback, go: Go) -> None:
    long = Say("", LOOK.calls, usage=(271_990, 0, 0, 5), model="gpt-5.5")
    _, result = go([long, FINISH], "chat", model="gpt-5.5")
    assert result.outcome.kind == "budget"
    assert "whose price at 272," in result.outcome.detail
    assert result.usage.usd == pytest.approx((271_990 * 5 + 5 * 30) / 1e6)


WRONG_CALLS = [
    ("bash", '{"command": "ls', "not valid JSON"),
    ("bash", '["ls"]', "must be a JSON object"),
    ("bash", {}, "needs command"),
    ("bash", {"command": 3}, "must be of the type string"),
    ("bash", {"command": "ls", "shell": "zsh"}, "takes no 'shell'"),
    ("bash", {"command": "a\0b"}, "no shell can take"),
    ("bash", '{"command": "true", "timeout": NaN}', "NaN is no number"),
    ("bash", {"command": "echo late", "timeout": -5}, "late"),
    ("bash", {"command": "echo later", "timeout": 10**400}, "later"),
    ("fly", {"to": "the moon"}, "There is no tool 'fly'"),
    ("__init__", {}, "There is no tool"),
    ("edit", {"command": "view", "path": "nope.py"}, "does not exist"),
    ("edit", {"command": "view", "path": "toy/order.py", "lines": [90, 99]}, "is none of them"),
    ("edit", {"command": "view", "path": "toy/order.py", "lines": ["a", 2]}, "two whole numbers"),
    ("edit", {"command": "create", "path": "toy/order.py"}, "needs text"),
    ("edit", {"command": "create", "path": "../x", "text": ""}, "not a path inside"),
    ("edit", {"command": "create", "path": "toy/x.py", "text": "\ud800"}, "could not be written"),
    ("edit", {"command": "delete", "path": "toy/order.py"}, "one of view"),
    ("edit", {"command": "str_replace", "path": "toy/order.py", "old": "item", "new": "x"}, "exactly once"),
    ("edit", {"command": "insert", "path": "toy/order.py", "line": True, "text": "x"}, "type integer"),
    ("edit", {"command": "undo", "path": "toy/order.py"}, "no edit of toy/order.py left"),
    ("benchmark", {"against": "human"}, "one of base, commit"),
    ("commit", {"message": "a\0b\ud800"}, "Nothing has changed"),
]


@pytest.mark.parametrize("api", APIS)
def test_a_call_that_cannot_be_done_is_an_answer_and_a_step(api: str, server: Loopback, go: Go) -> None:
    calls = tuple((name, arguments) for name, arguments, _ in WRONG_CALLS)
    _, result = go([Say("", calls), FINISH], api)
    answers = told(server, 1)
    assert [text for text, (_, _, wanted) in zip(answers, WRONG_CALLS, strict=True) if wanted not in text] == []
    assert result.outcome.kind == "finished"
    assert result.usage.steps == len(WRONG_CALLS)
    assert result.verdict.class_ == "no_patch"


def test_outputs_are_bounded_and_edits_can_be_taken_back(server: Loopback, go: Go) -> None:
    script = [
        Say("", (bash("seq 100000"), bash("exit 3"), bash("printf '\\377'"), bash("finish"))),
        Say("", (EDIT, ("edit", {"command": "create", "path": "toy/new.py", "text": "x"}))),
        Say("", tuple(("edit", {"command": "undo", "path": path}) for path in ("toy/order.py", "toy/new.py"))),
        FINISH,
    ]
    _, result = go(script)
    long, failed, binary, finish = told(server, 1)
    assert len(long) < 17_000
    assert long.startswith("1\n2\n")
    assert "left out" in long
    assert "99999\n100000\n[exit code 0" in long
    assert failed.startswith("[exit code 3")
    assert "[exit code 0" in binary
    assert finish.startswith("Noted.")  # the command of older prompts: it ends nothing and changes nothing
    assert result.verdict.class_ == "no_patch"


def test_a_reply_that_is_cut_off_in_a_call_is_told_so(server: Loopback, go: Go) -> None:
    go([Say("", (("bash", '{"command": "echo '),), stop="length"), FINISH], "anthropic")
    assert "cut off at its longest" in told(server, 1)[0]


def test_the_last_steps_are_announced(server: Loopback, go: Go) -> None:
    go([LOOK, LOOK, FINISH], extra=f"limits: {{steps: 7}}\n{QUICK}")
    assert ["[left: 5 steps, " in text for text in told(server, 2)] == [False, True]


@pytest.mark.parametrize("api", APIS)
def test_a_model_without_a_known_price_has_its_tokens_counted_and_no_cost(api: str, server: Loopback, go: Go) -> None:
    seen: list[Event] = []
    folder, result = go([LOOK, FINISH], api, model="my-own-model", listen=seen.append)
    assert result.usage.usd is None
    assert result.usage.input_tokens == 300
    warnings = [event.message for event in seen if "no price is known" in event.message]
    assert len(warnings) == 1
    assert warnings[0] in [line.get("text") for line in read_lines(folder / "journal.jsonl")]


def test_prices_of_ones_own(server: Loopback, go: Go, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    mine = {"schema": "omniperf/prices/v1", "as_of": "2026-11-21"}
    file.write_text(json.dumps({**mine, "models": {"a-model": {"tiers": [{"input": 1, "output": 2}]}}}))
    folder, result = go([FINISH], "chat", model="my-own-model", prices=str(file))
    assert result.usage.usd == pytest.approx((150 * 1 + 20 * 2) / 1e6)
    assert str(file) not in (folder / "result.json").read_text()


def test_a_server_that_does_not_count_has_its_tokens_estimated(go: Go) -> None:
    folder, result = go([Say("Done.", FINISH.calls, usage=None)], "chat")
    assert result.usage.input_tokens > 100
    assert [line["estimated"] for line in read_lines(folder / "trajectory.jsonl") if line["kind"] == "reply"] == [True]


@pytest.mark.parametrize(
    ("api", "message", "field"),
    [
        ("responses", "Encrypted content is not supported with this model.", "include"),
        ("chat", "Unrecognized request argument supplied: max_completion_tokens", "max_completion_tokens"),
    ],
)
def test_a_server_that_lacks_a_parameter_is_asked_without_it(
    api: str, message: str, field: str, server: Loopback, go: Go
) -> None:
    _, result = go([Fail(400, "invalid_request_error", message), LOOK, FINISH], api)
    assert result.outcome.kind == "finished"
    assert [field in call.body for call in server.calls] == [True, False, False]


def assert_no_key(folder: Path) -> None:
    """No file of the run, and none next to it, holds the key."""
    for path in folder.parent.parent.parent.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_the_key_is_neither_in_the_sandbox_nor_in_any_file(server: Loopback, go: Go) -> None:
    spy = bash("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; git config -l; ls -a ~")
    folder, _ = go([Say("", (spy,)), Fail(500, "server_error", "for {authorization}"), FINISH], "anthropic")
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert "PATH=" in told(server, 1)[0]
    assert KEY not in json.dumps([call.body for call in server.calls])
    assert_no_key(folder)


@pytest.mark.parametrize("api", APIS)
def test_key_and_model_are_proved_before_anything_is_done(api: str, server: Loopback, go: Go) -> None:
    go([FINISH], api)
    assert len(server.probes) == 1
    names = {"anthropic": "max_tokens", "responses": "max_output_tokens", "chat": "max_completion_tokens"}
    assert 1 <= server.probes[0].body[names[api]] <= 16


def test_a_model_that_needs_more_output_than_the_proof_allows_is_proved(server: Loopback) -> None:
    server.play([])
    server.probe = Fail(
        400, message="Could not finish the message because max_tokens or model output limit was reached."
    )
    OpenAIAgent().ready(options(server, "chat"), ignore)
    assert len(server.probes) == 1


def test_the_proof_of_key_and_model_is_not_waited_for_long(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    now = time.monotonic
    monkeypatch.setattr(backoff.time, "sleep", waits.append)
    monkeypatch.setattr(time, "monotonic", lambda: now() + sum(waits))
    server.play([])
    server.probe = Fail(429, "rate_limit_error", headers={"retry-after": "11"})
    with pytest.raises(InfraError) as caught:
        OpenAIAgent().ready(options(server, "chat"), ignore)
    assert caught.value.kind == "throttled"
    assert len(waits) == 2
    assert all(10.9 <= wait <= 13.75 for wait in waits)


def test_a_refused_key_ends_the_run_before_it_starts(
    server: Loopback, make_task: Callable[..., Task], settings: Settings, bubblewrap: None
) -> None:
    server.play([])
    server.probe = Fail(401, "authentication_error", "invalid x-api-key {authorization}")
    spec = AttemptSpec(run_id="", agent="anthropic", n=0, options=options(server, "anthropic"))
    with pytest.raises(InfraError, match="ANTHROPIC_API_KEY") as caught:
        run_task(make_task(), spec, 1, settings, ignore)
    assert caught.value.kind == "auth"
    assert KEY not in str(caught.value)
    assert not settings.results.exists()


@pytest.mark.parametrize(
    ("given", "native"), [("True", True), ("1", True), ("0", False), ("False", False), ("", False)]
)
def test_native_tools_can_be_turned_off_in_a_sweep_file(given: str, native: bool) -> None:
    """There an option is a value of YAML: `false` arrives as a text that is not empty."""
    assert bool(models._manner({"native_tools": given}).native) is native


@pytest.mark.parametrize(
    ("agent", "given", "missing", "said"),
    [
        ("anthropic", {}, "", "needs a model"),
        ("openai", {"model": "m"}, "OPENAI_API_KEY", "needs a key in OPENAI_API_KEY"),
        ("openai", {"model": "m", "api": "telegraph"}, "", "speaks no API 'telegraph'"),
        ("anthropic", {"model": "m", "api": "chat"}, "", "takes no --api"),
        ("anthropic", {"model": "m", "base_url": "ftp://x"}, "", "http"),
        ("anthropic", {"model": "m", "base_url": "http://["}, "", "--base-url is not a valid URL"),
        ("openai", {"model": "m", "base_url": "http://h:abc/v1"}, "", "--base-url is not a valid URL"),
        ("openai", {"model": "m", "base_url": "http://h:99999/v1"}, "", "--base-url is not a valid URL"),
        ("openai", {"model": "m", "base_url": "http://h/\0"}, "", "--base-url is not a valid URL"),
        ("anthropic", {"model": "m", "base_url": "http://me:secret@x"}, "", "without a user"),
        ("anthropic", {"model": "m", "max_output": "many"}, "", "--max-output"),
        ("openai", {"model": "m", "context": "1000"}, "", "--context must be a number of tokens from 1,024"),
        ("openai", {"model": "m", "effort": "utmost"}, "", "--effort must be low, medium or high"),
        ("openai", {"model": "m", "native_tools": "True"}, "", "takes no --native-tools"),
        ("null", {"model": "m", "base_url": "u"}, "", "takes no --base-url and --model"),
    ],
)
def test_what_is_missing_or_wrong_is_said_before_anything_is_spent(
    agent: str, given: dict[str, str], missing: str, said: str,
    make_task: Callable[..., Task], settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if missing:
        monkeypatch.delenv(missing)
    spec = AttemptSpec(run_id="", agent=agent, n=0, options=given)
    with pytest.raises(UsageError, match=said) as caught:
        run_task(make_task(), spec, 1, settings, ignore)
    assert not settings.results.exists()
    assert caught.value.remedy or "base_url" not in given
