"""Real clients through `omniperf run`: they edit, benchmark, commit and finish, and what they used is what was served."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.results.store import read_lines
from tests.agents.external.conftest import KEY, Attempt
from tests.agents.loopback import Loopback, Say
from tests.conftest import FAST, SLOW

if TYPE_CHECKING:
    from omniperf.tasks.schema import Task

LOOP, DICT = (text[text.index("distinct(items):\n") + 17 :] for text in (SLOW, FAST))
SHELL = {"claude-code": ("Bash", "command"), "codex": ("exec_command", "cmd"), "mini-swe-agent": ("bash", "command")}
EDIT = f"python3 - <<'E'\np = 'toy/order.py'\ns = open(p).read()\nopen(p, 'w').write(s.replace({LOOP!r}, {DICT!r}))\nE"
ANTHROPIC, OPENAI = (100 * 4 + 40 * 0.2 + 10 * 5 + 20 * 20) / 1e6, 0


def shell(agent: str, command: str) -> tuple[str, Any]:
    tool, name = SHELL[agent]
    more = {"yield_time_ms": 60000} if agent == "codex" else {}
    return tool, {name: command, **more}


def script(agent: str) -> list[Say]:
    end = Say("Done: a dict keeps the order.")
    if agent == "mini-swe-agent":
        end = Say("", (shell(agent, "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && echo done"),))
    commands = (EDIT, "omniperf-bench", "git add -A && git commit -qm 'use a dict' && env", "omniperf-test")
    return [*(Say("Next.", (shell(agent, command),)) for command in commands), end]


@pytest.mark.parametrize("agent", SHELL)
def test_a_client_makes_a_task_faster(
    agent: str, make_task: Callable[..., Task], server: Loopback, attempt: Attempt
) -> None:
    server.play_by_turns(script(agent))
    folder, result = attempt(make_task(), agent)
    print(result.outcome, result.usage, result.verdict.class_, result.identity)
    for name in ("logs/agent.stdout", "logs/agent.stderr", "trajectory.jsonl", "journal.jsonl"):
        print("=====", name); print((folder / name).read_text()[:6000])
    assert result.outcome.kind == "finished"
    assert result.verdict.class_ == "improved"
