"""What goes wrong between a client and its model, or at a limit: the outcome says which, in bounded time and tries.

The rows of a client run at once: most of their time is waiting.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.gateway import process
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.sweep.run import run_task
from tests.agents.external.conftest import KEY, VERSIONS
from tests.agents.external.test_clients import EDIT, shell, turns
from tests.agents.loopback import Fail, Gone, Loopback, Raw, Say, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from omniperf.results.schema import Result
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

LONG = "prompt is too long: 300000 tokens > 200000 maximum"
FAULTS: dict[str, Step] = {
    "402": Fail(402, "insufficient_quota", "no quota left"),
    "stall": Say("half", stall=60),
    "401": Fail(401, "authentication_error", "invalid x-api-key"),
    "403": Fail(403, "permission_error", "not allowed"),
    "404": Fail(404, "not_found_error", "model: no such model"),
    "429": Fail(429, "rate_limit_error", "slow down"),
    "429 for an hour": Fail(429, "rate_limit_error", "slow down", {"retry-after": "3600"}),
    "500": Fail(500, "api_error", "internal"),
    "529": Fail(529, "overloaded_error", "overloaded"),
    "refused": Gone(down=True),
    "reset": Gone(),
    "truncated": Say("half", cut=True),
    "invalid JSON": Raw((("message_start", "{not json"), ("response.created", "{not json"))),
    "too long": Fail(400, "context_length_exceeded", LONG),
}
EXPECTED = {
    "401": ("infra_error", "auth"),
    "403": ("infra_error", "auth"),
    "404": ("infra_error", "protocol"),
    "429": ("infra_error", "throttled"),
    "429 for an hour": ("infra_error", "throttled"),
    "500": ("infra_error", "network"),
    "529": ("infra_error", "throttled"),
    "402": ("infra_error", "quota"),
    "refused": ("infra_error", "network"),
    "reset": ("infra_error", "network"),
    "truncated": ("infra_error", "network"),
    "stall": ("budget", None),
    "invalid JSON": ("infra_error", "protocol"),
    "too long": ("agent_error", None),
}
# What Codex says of a stream that is no JSON is that it ended.
OTHERWISE: dict[str, dict[str, Any]] = {"claude-code": {}, "codex": {"invalid JSON": ("infra_error", "network")}}
MOST_CALLS = 12  # the gateway's six tries, for each of the client's two


Rows = dict[str, tuple[dict[str, int | float], list[Step]]]  # limits and script of each
Ended = dict[str, tuple["Result", Loopback]]


def hasten() -> None:
    """Short pauses of the gateway, which doubles them from try to try."""
    process.Gateway = partial(process.Gateway, first_wait=0.0005)  # type: ignore[misc,assignment]


def attempted(task: Task, spec: AttemptSpec, settings: Settings, environment: dict[str, str]) -> Result:
    """One attempt, in a process of its own."""
    os.environ.update(environment)
    return run_task(task, spec, 1, settings, ignore)[1][0]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(5, get_context("spawn"), hasten) as processes:
        yield processes


@pytest.fixture
def all_at_once(
    settings: Settings, bubblewrap: None, client: Callable[[str], None], pool: ProcessPoolExecutor
) -> Iterator[Callable[[str, Rows, Task], Ended]]:
    """Run the rows of an agent side by side, each with a server of its own, the first one alone: it proves the task."""
    servers: dict[str, Loopback] = {}

    def run(agent: str, rows: Rows, task: Task) -> Ended:
        client(VERSIONS[agent])
        environment = {"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY}
        waiting: dict[str, Future[Result]] = {}
        for name, (limits, script) in rows.items():
            servers[name] = Loopback()
            servers[name].play_by_turns(script)
            url = servers[name].url if agent == "claude-code" else f"{servers[name].url}/v1"
            options = {"model": "claude-opus-5-5" if agent == "claude-code" else "gpt-5.5", "base_url": url}
            spec = AttemptSpec("", agent, 0, options, limits=limits)
            waiting[name] = pool.submit(attempted, task, spec, settings, environment)
            if len(waiting) == 1:
                waiting[name].result()
        return {name: (future.result(), servers[name]) for name, future in waiting.items()}

    yield run
    for name in set(servers) - {"refused"}:
        servers[name].close()


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_every_fault_has_its_outcome(
    agent: str, make_task: Callable[..., Task], all_at_once: Callable[[str, Rows, Task], Ended]
) -> None:
    rows: Rows = {name: ({"minutes": 0.2 if name == "stall" else 0.5}, [step]) for name, step in FAULTS.items()}
    ended = all_at_once(agent, rows, make_task())
    outcomes = {name: (result.outcome.kind, result.outcome.infra_kind) for name, (result, _) in ended.items()}
    assert outcomes == EXPECTED | OTHERWISE[agent]
    assert {name: len(server.calls) for name, (_, server) in ended.items() if len(server.calls) > MOST_CALLS} == {}
    assert {result.verdict.class_ for result, _ in ended.values()} <= {"unverified", "no_patch"}
    assert {name: result.usage for name, (result, _) in ended.items() if result.usage.wall_seconds > 100} == {}


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_every_limit_stops_a_client(
    agent: str, make_task: Callable[..., Task], all_at_once: Callable[[str, Rows, Task], Ended]
) -> None:
    busy = turns(agent, *(["true"] * 30))
    kept = turns(agent, EDIT, "omniperf-bench", "git commit -qam faster", "echo worse >> toy/order.py", "true")
    slow = [Say("Wait.", (shell(agent, "python3 -c 'import time; time.sleep(90)'"),))]
    used = [Say("Next.", say.calls, usage=(60_000, 0, 0, 900)) for say in busy]
    rows: Rows = {
        "USD": ({"usd": 0.01}, [*busy]),
        "minutes": ({"minutes": 0.33}, [*slow]),
        "steps": ({"steps": 3}, [*kept]),
        "tokens": ({"tokens": 1000}, [*busy]),
        "tokens, some used": ({"tokens": 200_000}, [*used]),
    }
    ended = all_at_once(agent, rows, make_task("measure: {max_minutes: 0.5}"))
    for name, (result, _) in ended.items():
        assert result.outcome.kind == "budget", name
        assert name.split(",")[0] in result.outcome.detail
    steps = ended["steps"][0]
    assert steps.usage.steps == 3
    assert steps.verdict.class_ == "improved"
    assert all(len(ended[name][1].calls) <= 1 for name in ("USD", "tokens"))
    result, server = ended["tokens, some used"]
    assert 0 < result.usage.input_tokens + result.usage.output_tokens <= 200_000
    assert result.usage.steps == len(server.calls)
    assert ended["USD"][0].usage.usd == 0
    assert ended["minutes"][0].usage.wall_seconds < 60
