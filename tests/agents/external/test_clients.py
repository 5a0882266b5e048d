"""Real clients through a whole run: they edit, benchmark, commit and finish, and what they used is what was served."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.results.store import read_lines
from tests.agents.external.conftest import KEY, Attempt
from tests.agents.loopback import Loopback, Say
from tests.conftest import FAST, SLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.tasks.schema import Task

LOOP, DICT = (text[text.index("distinct(items):\n") + 17 :] for text in (SLOW, FAST))
SHELL = {  # each client's tool, the name of the command, and what else it must be given
    "claude-code": ("Bash", "command", {}),
    "codex": ("exec_command", "cmd", {"yield_time_ms": 60_000}),
    "mini-swe-agent": ("bash", "command", {}),
    "openhands": ("terminal", "command", {"security_risk": "LOW", "timeout": 60}),
    "trae": ("bash", "command", {}),
}
EDIT = f"python3 - <<'E'\np = 'toy/order.py'\ns = open(p).read()\nopen(p, 'w').write(s.replace({LOOP!r}, {DICT!r}))\nE"
SPY = "(cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; exit 3)"  # some shells live on
PRICES = {  # per million tokens: input, from the cache, to the cache, output
    "claude-opus-5-5": (4, 0.2, 5, 20),
    "gpt-5.5": (5, 0.5, 5, 30),
}


def shell(agent: str, command: str) -> tuple[str, Any]:
    if agent == "codex-0.60.1":
        return "shell", {"command": ["bash", "-lc", command], "timeout_ms": 60_000}
    tool, name, more = SHELL[agent]
    return tool, {name: command, **more}


def turns(agent: str, *commands: str) -> list[Say]:
    """One command a turn, then the end as the client knows it."""
    ends = {
        "mini-swe-agent": Say("", (shell("mini-swe-agent", "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),)),
        "openhands": Say("", (("finish", {"message": "Done: a dict keeps the order."}),)),
        "trae": Say("", (("task_done", {}),)),
    }
    end = ends.get(agent, Say("Done: a dict keeps the order."))
    return [*(Say("Next.", (shell(agent, command),)) for command in commands), end]


@pytest.mark.parametrize(
    ("agent", "version"),
    [
        ("claude-code", "claude-code-2.1.329"),
        ("codex", "codex-0.169.0"),
        ("codex", "codex-0.60.1"),
        ("mini-swe-agent", "mini-swe-agent-2.4.6"),
        ("openhands", "openhands-1.16.0"),
        ("trae", "trae-0.1.0"),
    ],
)
def test_a_client_makes_a_task_faster(
    agent: str, version: str, make_task: Callable[..., Task], server: Loopback, attempt: Attempt,
    seen_outside: set[bytes],
) -> None:  # fmt: skip
    commands = (EDIT, "omniperf-bench", "git add -A && git commit -qm 'use a dict'", SPY)
    server.play_by_turns(turns(version if version == "codex-0.60.1" else agent, *commands))
    folder, result = attempt(make_task("measure: {max_minutes: 0.5}"), agent, version)

    assert (result.outcome.kind, result.outcome.finish_called) == ("finished", True), result.outcome
    assert result.outcome.exit_code == 0
    assert result.verdict.class_ == "improved"
    assert result.identity.model == "a-model-2026-11-01"
    assert version.endswith(result.identity.agent_version.split()[-1].rstrip(")"))

    calls, model = len(server.calls), "gpt-5.5" if agent == "codex" else "claude-opus-5-5"
    usage = result.usage
    assert calls == 5
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens) == (150 * calls, 40 * calls, 10 * calls)
    assert usage.output_tokens == 20 * calls
    rates = dict(zip(("fresh", "read", "written", "out"), PRICES[model], strict=True))
    once = 100 * rates["fresh"] + 40 * rates["read"] + 10 * rates["written"] + 20 * rates["out"]
    assert usage.usd == pytest.approx(once * calls / 1e6)
    assert usage.steps == len(commands) + (agent == "mini-swe-agent")  # whose end is a command too
    assert usage.seconds_to_first_edit is not None
    assert usage.seconds_to_first_gain is not None
    assert usage.seconds_to_first_edit < usage.seconds_to_first_gain

    lines = list(read_lines(folder / "trajectory.jsonl"))
    called = [line["command"] for line in lines if line["kind"] == "call"]
    assert [command in shown for command, shown in zip(commands, called, strict=False)] == [True] * len(commands)
    results = {line["id"]: line for line in lines if line["kind"] == "result"}
    asked = {line["command"]: results[line["id"]] for line in lines if line["kind"] == "call"}
    benched, spied = (found for command, found in asked.items() if "omniperf-bench" in command or "environ" in command)
    says = agent != "trae"  # which does not record exit statuses
    assert (benched["exit_code"], benched["failed"]) == (0 if says else None, False)
    assert "Screening, not a verdict: faster" in benched["output"]
    assert (spied["exit_code"], spied["failed"]) == (3 if says else None, True)
    report = lines[-1]["report"]
    assert report["turns"] == (1 if agent == "codex" else calls)
    assert {"ended": True, "ok": True}.items() <= report.items()

    # Keys: the real one reached the server, and nothing inside; the client's token is worthless and blotted out.
    assert {call.headers.get("x-api-key") or call.headers["authorization"].split()[-1] for call in server.calls} == {
        KEY
    }
    planted = os.environ["PLANTED_API_KEY"]
    sent = json.dumps([call.body for call in server.calls])
    assert "PATH=" in sent  # what it saw of the processes inside
    assert KEY not in sent
    assert planted not in sent
    assert any(b"omniperf.gateway.server" in seen for seen in seen_outside)  # which has the key
    assert not [seen for seen in seen_outside if KEY.encode() in seen or planted.encode() in seen]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {"agent.stdout", "exchanges.jsonl"} <= {path.name for path in written}
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("agent", "api"),
    [
        ("mini-swe-agent", "chat"),
        ("mini-swe-agent", "responses"),
        ("openhands", "chat"),
        ("trae", "chat"),
        ("trae", "responses"),
    ],
)
def test_a_client_speaks_its_other_apis(
    agent: str, api: str, make_task: Callable[..., Task], server: Loopback, attempt: Attempt
) -> None:
    server.play_by_turns(turns(agent, "echo $((6 * 7)) is it"))
    folder, result = attempt(make_task(), agent, model="gpt-5.5", api=api)
    assert (result.outcome.kind, result.verdict.class_) == ("finished", "no_patch"), result.outcome
    assert result.usage.input_tokens == 300
    assert result.identity.model == "a-model-2026-11-01"
    told = [line for line in read_lines(folder / "trajectory.jsonl") if line["kind"] == "result"]
    assert "42 is it" in told[0]["output"]


def test_a_client_that_ends_well_without_a_change_has_no_patch(
    make_task: Callable[..., Task], server: Loopback, attempt: Attempt
) -> None:
    server.play_by_turns(turns("claude-code", "omniperf-bench --wrong", "cat /omniperf/channel/control"))
    folder, result = attempt(make_task(), "claude-code")
    assert (result.outcome.kind, result.verdict.class_) == ("finished", "no_patch")
    told = [line for line in read_lines(folder / "trajectory.jsonl") if line["kind"] == "result"]
    assert "usage: omniperf-bench [--against base|commit]" in told[0]["output"]
    assert told[0]["exit_code"] == 1


def test_an_edit_is_known_of_a_client_that_dies_before_it_says_so(
    make_task: Callable[..., Task], server: Loopback, attempt: Attempt
) -> None:
    server.play_by_turns(turns("claude-code", f"{EDIT}\nkill -9 $PPID; sleep 60"))
    folder, result = attempt(make_task("measure: {max_minutes: 0.05}"), "claude-code")
    assert (result.outcome.kind, result.outcome.signal) == ("agent_error", "SIGKILL")
    (told,) = [line for line in read_lines(folder / "trajectory.jsonl") if line["kind"] == "result"]
    assert (told["exit_code"], told["output"]) == (None, "(the client ended without saying what came of it)")
    assert result.patch is not None
    assert result.patch.added == 1
    assert result.usage.seconds_to_first_edit is not None
