"""What goes wrong between a client and its model, or at a limit: the outcome says which, in bounded time and tries.

The rows of a client run at once: most of their time is waiting.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents.external.conftest import KEY, VERSIONS
from tests.agents.external.test_clients import EDIT, shell, turns
from tests.agents.loopback import Fail, Gone, Loopback, Raw, Say, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

LONG = "prompt is too long: 300000 tokens > 200000 maximum"
ONCE = [Fail(429, "rate_limit_error", "slow down", {"retry-after": "1"})]
FAULTS: dict[str, Step] = {
    "401": Fail(401, "authentication_error", "invalid x-api-key"),
    "403": Fail(403, "permission_error", "not allowed"),
    "404": Fail(404, "not_found_error", "model: no such model"),
    "429": Fail(429, "rate_limit_error", "slow down"),
    "429 for an hour": Fail(429, "rate_limit_error", "slow down", {"retry-after": "3600"}),
    "500": Fail(500, "api_error", "internal"),
    "529": Fail(529, "overloaded_error", "overloaded"),
    "402": Fail(402, "insufficient_quota", "no quota left"),
    "refused": Gone(down=True),
    "reset": Gone(),
    "truncated": Say("half", cut=True),
    "stall": Say("half", stall=60),
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


def limited(task: Task, name: str, limits: str) -> str:
    """A copy of the task with limits of its own; all share what was proved of it."""
    import shutil

    folder = task.folder.parent / name.replace(" ", "-")
    shutil.copytree(task.folder, folder)
    file = folder / "task.yaml"
    file.write_text(f"{file.read_text()}\nlimits: {{{limits}}}\n")
    return str(folder)


@pytest.fixture
def run(
    settings: Settings, bubblewrap: None, client: Callable[[str], None], tmp_path: Path
) -> Callable[[str, str, str, Loopback], dict[str, Any]]:
    """`omniperf run` in a process of its own; the result. The gateway's pauses are short."""
    hasty = tmp_path / "hasty"
    hasty.mkdir()
    (hasty / "sitecustomize.py").write_text("import omniperf.gateway.backoff as b\nb.FIRST_WAIT = 0.02\n")
    path = os.pathsep.join([str(hasty), *filter(None, sys.path)])

    def omniperf(agent: str, task: str, name: str, server: Loopback) -> dict[str, Any]:
        url = server.url if agent == "claude-code" else f"{server.url}/v1"
        model = "claude-opus-5-5" if agent == "claude-code" else "gpt-5.5"
        folders = (("--results", settings.results), ("--worktrees", settings.worktrees), ("--cache", settings.cache))
        flags = [str(word) for pair in folders for word in pair]
        flags += ["--model", model, "--base-url", url, "--json", "--agent", agent]
        done = subprocess.run(
            [sys.executable, "-m", "omniperf", "run", task, *flags],
            env={**os.environ, "ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY, "PYTHONPATH": path},
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        try:
            result: dict[str, Any] = json.loads(done.stdout)["attempts"][0]
        except ValueError:
            raise AssertionError(f"{name}: {done.stderr[-2000:]}") from None
        return result

    return omniperf


def all_at_once(
    agent: str, rows: dict[str, tuple[str, list[Step]]], task: Task, run: Callable[..., dict[str, Any]]
) -> dict[str, tuple[dict[str, Any], Loopback]]:
    """Run the rows (limits, script) side by side."""
    servers = {name: Loopback() for name in rows}
    try:
        for name, (_, script) in rows.items():
            servers[name].play_by_turns(script)
        tasks = {name: limited(task, name, limits) for name, (limits, _) in rows.items()}
        first, *others = rows
        found = {first: run(agent, tasks[first], first, servers[first])}  # it also proves the task
        with ThreadPoolExecutor(5) as pool:
            waiting = {name: pool.submit(run, agent, tasks[name], name, servers[name]) for name in others}
            found |= {name: future.result() for name, future in waiting.items()}
        return {name: (result, servers[name]) for name, result in found.items()}
    finally:
        for name in set(rows) - {"refused"}:
            servers[name].close()


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_every_fault_has_its_outcome(
    agent: str, make_task: Callable[..., Task], client: Callable[[str], None], run: Callable[..., dict[str, Any]]
) -> None:
    client(VERSIONS[agent])
    rows = {name: ("minutes: 0.2" if name == "stall" else "minutes: 0.5", [step]) for name, step in FAULTS.items()}
    ended = all_at_once(agent, rows, make_task(), run)
    outcomes = {name: result["outcome"] for name, (result, _) in ended.items()}
    assert {name: (one["kind"], one["infra_kind"]) for name, one in outcomes.items()} == EXPECTED | OTHERWISE[agent]
    assert {name: len(server.calls) for name, (_, server) in ended.items() if len(server.calls) > MOST_CALLS} == {}
    assert {result["verdict"]["class"] for result, _ in ended.values()} <= {"unverified", "no_patch"}
    wrong = {name: result["usage"] for name, (result, _) in ended.items() if result["usage"]["wall_seconds"] > 100}
    assert wrong == {}


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_every_limit_stops_a_client(
    agent: str, make_task: Callable[..., Task], client: Callable[[str], None], run: Callable[..., dict[str, Any]]
) -> None:
    client(VERSIONS[agent])
    busy = turns(agent, *(["true"] * 30))
    kept = turns(agent, EDIT, "omniperf-bench", "git commit -qam faster", "echo worse >> toy/order.py", "true")
    slow = [Say("Wait.", (shell(agent, "python3 -c 'import time; time.sleep(90)'"),))]
    rows: dict[str, tuple[str, list[Step]]] = {
        "steps": ("steps: 3", [*kept]),
        "USD": ("usd: 0.01", [*busy]),
        "tokens": ("tokens: 1000", [*busy]),
        "tokens, some used": ("tokens: 200000", [Say("Next.", say.calls, usage=(60_000, 0, 0, 900)) for say in busy]),
        "minutes": ("minutes: 0.33", [*slow]),
    }
    ended = all_at_once(agent, rows, make_task("measure: {max_minutes: 0.5}"), run)
    for name, (result, _) in ended.items():
        assert result["outcome"]["kind"] == "budget", name
        assert name.split(",")[0] in result["outcome"]["detail"]
    steps, _ = ended["steps"]
    assert steps["usage"]["steps"] == 3
    assert steps["verdict"]["class"] == "improved"
    assert all(len(ended[name][1].calls) <= 1 for name in ("USD", "tokens"))
    used, server = ended["tokens, some used"]
    assert 0 < used["usage"]["input_tokens"] + used["usage"]["output_tokens"] <= 200_000
    assert used["usage"]["steps"] == len(server.calls)
    assert ended["USD"][0]["usage"]["usd"] <= 0.01
    assert ended["minutes"][0]["usage"]["wall_seconds"] < 60
