"""Recorded attempts of real clients once more, with the model's server gone: the same bytes, or where they differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.gateway.recording import EXCHANGES
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.results.schema import Result
from omniperf.results.store import read_lines
from omniperf.sweep.run import run_task
from tests.agents.external.conftest import KEY, VERSIONS
from tests.agents.external.test_clients import EDIT, turns
from tests.agents.loopback import Call, Say, replies_in

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from tests.agents.loopback import Loopback

MEASURED = ("screening", "tests", "profile")
SAME = ("model_patch.diff", "trajectory.jsonl")


Run = Callable[..., tuple[Path, Result]]


@pytest.fixture
def run(settings: Settings, bubblewrap: None) -> Run:
    """Run an attempt, unmeasured; its folder and its result."""

    def go(task: Task, agent: str, **options: str) -> tuple[Path, Result]:
        spec = AttemptSpec("", agent, 0, options=options, verify=False)
        made, (result,) = run_task(task, spec, 1, settings, ignore)
        return made / task.id / f"{agent}.1", result

    return go


@pytest.fixture
def record(run: Run, server: Loopback, client: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Record an attempt of a client; then there is neither key nor server any more."""

    def go(
        task: Task, agent: str, *commands: str, version: str = "", script: Callable[[Call], Say] | None = None
    ) -> tuple[Path, Result]:
        client(version or VERSIONS[agent])
        if script is None:
            server.play_by_turns(turns(version or agent, *commands))
        else:
            server.play(script)
        url, model = (f"{server.url}/v1", "gpt-5.5") if agent == "codex" else (server.url, "claude-opus-5-5")
        with monkeypatch.context() as keys:
            keys.setenv("ANTHROPIC_API_KEY", KEY)
            keys.setenv("OPENAI_API_KEY", KEY)
            found = run(task, agent, model=model, base_url=url)
        server.play_by_turns([])
        return found

    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    yield go
    assert not server.calls


@pytest.mark.parametrize(
    ("agent", "version"), [*((agent, "") for agent in VERSIONS), ("codex", "codex-0.60.1")], ids=str
)
def test_a_client_comes_out_again_byte_for_byte(
    agent: str, version: str, make_task: Callable[..., Task], record: Run, run: Run
) -> None:
    commands = (EDIT, "omniperf-bench; date; git log --format=%H", "git add -A && git commit -qm 'use a dict'")
    task = make_task("measure: {max_minutes: 0.5}")
    folder, result = record(task, agent, *commands, version=version)
    again, replayed = run(task, "replay", **{"from": str(folder)})
    assert (result.outcome.kind, replayed.outcome) == ("finished", result.outcome)
    assert [(again / file).read_bytes() == (folder / file).read_bytes() for file in SAME] == [True, True]
    usage = ("steps", "input_tokens", "output_tokens", "cached_tokens", "usd")
    assert [getattr(replayed.usage, name) for name in usage] == [getattr(result.usage, name) for name in usage]
    said = [[line for line in read_lines(one / "journal.jsonl") if line["kind"] in MEASURED] for one in (folder, again)]
    assert [{**line, "t": ""} for line in said[0]] == [{**line, "t": ""} for line in said[1]]
    assert len(said[0]) == 1
    assert took(again) >= took(folder) - 0.01  # a client has its own clock


def took(folder: Path) -> float:
    """How long the benchmark was at work, in seconds."""
    lines = list(read_lines(folder / "journal.jsonl"))
    began, ended = (
        datetime.fromisoformat(line["t"])
        for line in lines
        if line["kind"] == "screening" or (line["kind"], line.get("tool")) == ("step", "benchmark")
    )
    return (ended - began).total_seconds()


def test_a_command_that_codex_lets_run_on_is_the_same_one_again(
    make_task: Callable[..., Task], record: Run, run: Run
) -> None:
    named = list[str]()

    def script(call: Call) -> Say:
        if not (said := replies_in(call.body)):
            running = {"cmd": f"sleep 2; {EDIT}", "yield_time_ms": 1000}
            return Say("", (("exec_command", running),))
        named.extend(re.findall(r"running with session ID (\d+)", str(call.body["input"])) if said == 1 else ())
        go_on = {"session_id": int(named[-1]), "chars": "", "yield_time_ms": 30_000}
        return Say("", (("write_stdin", go_on),)) if said == 1 else Say("Done.")

    task = make_task()
    folder, result = record(task, "codex", script=script)
    again, replayed = run(task, "replay", **{"from": str(folder)})
    assert (result.outcome.kind, replayed.outcome) == ("finished", result.outcome)
    assert [(again / file).read_bytes() == (folder / file).read_bytes() for file in SAME] == [True, True]
    assert len(named) == 1
    assert f"session ID {named[0]}" in (folder / EXCHANGES).read_text()
    assert f"session ID {named[0]}" not in (again / EXCHANGES).read_text()


def test_a_replay_of_a_client_that_differs_says_where(make_task: Callable[..., Task], record: Run, run: Run) -> None:
    task = make_task()
    folder, _ = record(task, "mini-swe-agent", "wc -l < toy/order.py")
    text = (folder / EXCHANGES).read_text()
    changed = text.replace('\\"output\\": \\"9', '\\"output\\": \\"10')
    assert changed != text
    (folder / EXCHANGES).write_text(changed)
    _, replayed = run(task, "replay", **{"from": str(folder)})
    assert replayed.outcome.kind == "agent_error"
    assert "the replay diverged: exchange 2 differs from the recorded one at /messages/" in replayed.outcome.detail
