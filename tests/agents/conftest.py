"""One attempt's agent against a scripted server, in a real workspace and sandbox, without the verdict after it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from omniperf.agents.discover import load_agent
from omniperf.agents.work import Work
from omniperf.errors import InfraError
from omniperf.gateway import backoff
from omniperf.results.events import ignore
from omniperf.results.journal import Journal
from omniperf.results.schema import Outcome, Usage, Verdict
from omniperf.tasks.schema import Limits
from omniperf.workspace.patch import collect
from tests.agents.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.agents.resume import ResumePoint
    from omniperf.gateway.process import Gateway
    from omniperf.measure.bench import Bench
    from omniperf.workspace.worktree import Workspace

KEY = "sk-secret-0123456789"
APIS = ("anthropic", "responses", "chat")


@dataclass(frozen=True)
class Ended:
    """How it ended: an outcome, of which an infra error is one too; what was used; what was left."""

    outcome: Outcome
    usage: Usage
    patch: str
    folder: Path
    workspace: Workspace


Attempt = Callable[..., Ended]


@pytest.fixture(scope="session")
def loopback() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def attempt(loopback: Loopback, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """Run one against a script; `limits` are the task's, `more` the agent's options."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(backoff, "FIRST_WAIT", 0.01)

    def run(
        script: Any, api: str = "chat", limits: dict[str, Any] | None = None, name: str = "attempt.1",
        point: ResumePoint | None = None, gateway: Gateway | None = None, **more: str,
    ) -> Ended:  # fmt: skip
        loopback.play(script)
        agent, model, path = "openai", "gpt-6.2-sol", "/v1"
        if api == "anthropic":
            agent, model, path = "anthropic", "claude-opus-5-5", ""
        options = {"model": model, "base_url": more.pop("url", loopback.url) + path, **more}
        if agent == "openai":
            options["api"] = api
        task = bench.task.model_copy(update={"limits": Limits(**(limits or {}))})
        folder = tmp_path / name
        with Journal(folder / "journal.jsonl") as journal:
            mine = replace(bench, task=task)
            # Nothing here runs the task's tests or measures, which alone ask what preflight proved.
            work = Work(mine, cast("Any", None), {}, journal, ignore, gateway)
            workspace = bench.workspace("attempt-1")
            try:
                outcome = work.run(load_agent(agent), workspace, "Make distinct faster.", options, point)
            except InfraError as error:
                outcome = Outcome(kind="infra_error", infra_kind=error.kind, detail=str(error))
        patch = collect(workspace).data.decode()
        return Ended(outcome, work.usage(0.0, Verdict()), patch, folder, workspace)

    return run


def listed(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation in a request of any API, without the marks for a cache, which are no part of what is said."""
    items: list[dict[str, Any]] = copy.deepcopy(body.get("messages") or body["input"])
    for item in items:
        for block in item["content"] if isinstance(item.get("content"), list) else ():
            block.pop("cache_control", None)
    return items


def calls_of(items: list[dict[str, Any]]) -> list[str]:
    """The ids of all calls, in order."""
    found = []
    for item in items:
        if item.get("type") == "function_call":
            found.append(item["call_id"])
        found += [call["id"] for call in item.get("tool_calls", ())]
        if isinstance(content := item.get("content"), list):
            found += [block["id"] for block in content if block.get("type") == "tool_use"]
    return found


def answers_of(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The ids of all calls that were answered, and with what, in order."""
    found = []
    for item in items:
        if item.get("type") == "function_call_output":
            found.append((item["call_id"], item["output"]))
        if item.get("role") == "tool":
            found.append((item["tool_call_id"], item["content"]))
        if isinstance(content := item.get("content"), list):
            found += [(block["tool_use_id"], block["content"]) for block in content if block["type"] == "tool_result"]
    return found
