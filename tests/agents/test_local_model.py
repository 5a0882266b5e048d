"""The built-in agent against a real model, as weak as they come: whatever it writes, the outcome says what happened.

Nothing here depends on what the model says, which no seed fixes across machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.gateway import backoff
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.results.store import read_lines
from omniperf.sweep.run import run_task
from tests.agents.local_model import CONTEXT, MISSING, Change, Forced, LocalModel

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.schema import Result
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra `local` is not installed: no {', '.join(MISSING)}")

STEPS = 4
EXTRA = f"limits: {{steps: {STEPS}, minutes: 2}}\nmeasure: {{max_minutes: 0.2}}"
LONGEST = 60  # tokens of a reply
TRUE = {"finished", "budget", "agent_error"}

Go = Callable[[Change], tuple["Path", "Result", Forced]]


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    server = LocalModel()
    yield server
    server.close()


@pytest.fixture
def go(
    model: LocalModel,
    make_task: Callable[..., Task],
    settings: Settings,
    bubblewrap: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Go]:
    """Run one attempt on the toy task; `change` is made to each of its requests."""
    monkeypatch.setenv("OPENAI_API_KEY", "none-is-needed")
    monkeypatch.setattr(backoff, "FIRST_WAIT", 0.01)
    opened: list[Forced] = []

    def run(change: Change) -> tuple[Path, Result, Forced]:
        opened.append(Forced(model.port, change))
        options = {"model": "smollm2-135m", "base_url": opened[-1].url, "api": "chat", "max_output": str(LONGEST)}
        spec = AttemptSpec(run_id="", agent="openai", n=0, options=options)
        folder, (result,) = run_task(make_task(EXTRA), spec, 1, settings, ignore)
        return folder / "toy" / "openai.1", result, opened[-1]

    yield run
    for proxy in opened:
        proxy.close()


def seeded(seed: int, **fields: Any) -> Change:
    """Add a seed, and the limit by the older of its names, the only one that this server knows."""
    return lambda body, n: body | {"seed": 100 * seed + n, "max_tokens": LONGEST} | fields


def calling(*tools: str, loose: bool = False, **fields: Any) -> Change:
    """Make the model call these tools in turn; `loose`: with any object as arguments, whatever the tool takes."""

    def change(body: dict[str, Any], n: int) -> dict[str, Any]:
        choice = {"type": "function", "function": {"name": tools[n % len(tools)]}}
        offered = body["tools"]
        if loose:
            offered = [
                {"type": "function", "function": tool["function"] | {"parameters": {"type": "object"}}}
                for tool in offered
            ]
        return seeded(n)(body, n) | {"tools": offered, "tool_choice": choice} | fields

    return change


def assert_true_to_what_happened(folder: Path, result: Result, proxy: Forced) -> None:
    """The outcome is one of an agent's, each reply was counted, and each call was answered once, in order."""
    assert result.outcome.kind in TRUE, result.outcome
    assert result.verdict.class_ == "no_patch" or result.patch is not None
    assert result.identity.model == "smollm2-135m"
    replies = [line for line in read_lines(folder / "trajectory.jsonl") if line["kind"] == "reply"]
    assert len(replies) == len(proxy.sent)
    assert all(line["estimated"] and line["tokens"]["input"] > 500 for line in replies)  # it counts nothing in a stream
    assert result.usage.input_tokens == sum(line["tokens"]["input"] for line in replies) < len(replies) * CONTEXT
    assert result.usage.output_tokens == sum(line["tokens"]["output"] for line in replies)
    for before, after in pairwise(proxy.sent[-1]["messages"]):
        calls = [call["id"] for call in before.get("tool_calls", ())]
        assert calls == ([after["tool_call_id"]] if calls else [])


@pytest.mark.parametrize("seed", [1, 2])
def test_prose_is_asked_once_for_a_tool_and_then_taken_as_the_end(go: Go, seed: int) -> None:
    folder, result, proxy = go(seeded(seed, temperature=0.5 * seed))
    assert_true_to_what_happened(folder, result, proxy)
    assert result.outcome.kind == "finished" and not result.outcome.finish_called
    assert "no tool twice" in result.outcome.detail
    assert result.verdict.class_ == "no_patch" and result.usage.steps == 0


def test_commands_and_edits_of_its_own_making_are_done_in_the_sandbox_until_the_steps_are_over(go: Go) -> None:
    folder, result, proxy = go(calling("bash", "edit", "test", "commit", temperature=1.2))
    assert_true_to_what_happened(folder, result, proxy)
    assert (result.outcome.kind, result.usage.steps) == ("budget", STEPS)
    assert "steps" in result.outcome.detail


def test_arguments_that_no_tool_takes_are_steps_and_are_told(go: Go) -> None:
    folder, result, proxy = go(calling("edit", "finish", "profile", loose=True, max_tokens=12))
    assert_true_to_what_happened(folder, result, proxy)
    assert result.outcome.kind == "budget" or result.outcome.finish_called
    refused = [line["refused"] for line in read_lines(folder / "journal.jsonl") if line.get("refused")]
    told = [message["content"] for message in proxy.sent[-1]["messages"] if message["role"] == "tool"]
    assert any(answer.startswith(text) for text in refused for answer in told)


def test_a_conversation_beyond_its_context_is_told_from_a_broken_connection(go: Go) -> None:
    """This server ends the stream before it begins, and says why only in its log."""
    long = {"role": "user", "content": "longer " * CONTEXT}
    folder, result, _ = go(lambda body, n: body | {"messages": [*body["messages"], long]})
    assert (result.outcome.kind, result.outcome.infra_kind) == ("infra_error", "network")
    assert "the conversation may be longer than the model takes" in result.outcome.detail
    kinds = [line["kind"] for line in read_lines(folder / "trajectory.jsonl")]
    assert kinds.count("failed") == backoff.TRIES and "reply" not in kinds
    assert result.usage.output_tokens == 0


def test_a_finish_of_its_own_making_is_one(go: Go) -> None:
    folder, result, proxy = go(calling("finish"))
    assert_true_to_what_happened(folder, result, proxy)
    assert result.outcome.finish_called or result.outcome.kind == "budget"  # budget: no summary in time, each time
