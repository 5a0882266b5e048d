"""Recorded attempts of real clients once more, with the model's server gone: the same bytes, or where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    def go(task: Task, agent: str, *commands: str) -> tuple[Path, Result]:
        client(VERSIONS[agent])
        server.play_by_turns(turns(agent, *commands))
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


@pytest.mark.parametrize("agent", ["mini-swe-agent", "claude-code", "codex"])
def test_a_client_comes_out_again_byte_for_byte(
    agent: str, make_task: Callable[..., Task], record: Run, run: Run
) -> None:
    commands = (EDIT, "omniperf-bench; date; git log --format=%H", "git add -A && git commit -qm 'use a dict'")
    task = make_task("measure: {max_minutes: 0.5}")
    folder, result = record(task, agent, *commands)
    again, replayed = run(task, "replay", **{"from": str(folder)})
    assert replayed.outcome == result.outcome
    assert [(again / file).read_bytes() == (folder / file).read_bytes() for file in SAME] == [True, True]
    usage = ("steps", "input_tokens", "output_tokens", "cached_tokens", "usd")
    assert [getattr(replayed.usage, name) for name in usage] == [getattr(result.usage, name) for name in usage]
    said = [[line for line in read_lines(one / "journal.jsonl") if line["kind"] in MEASURED] for one in (folder, again)]
    assert [{**line, "t": ""} for line in said[0]] == [{**line, "t": ""} for line in said[1]]
    assert len(said[0]) == 1


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
