"""What clients wrote in earlier runs, imported: what it says is shown, what it does not say is unknown."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.results.store import read_lines
from tests.agents.external.test_readers import TRAE, seed

if TYPE_CHECKING:
    from pathlib import Path

Omniperf = Callable[..., subprocess.CompletedProcess[str]]

CODEX: tuple[dict[str, Any], ...] = (
    {"type": "thread.started", "thread_id": "thread-1"},
    {"type": "turn.started"},
    {"type": "item.started", "item": {"id": "1", "type": "command_execution", "command": "bash -lc 'make'"}},
    {"type": "item.completed", "item": {"id": "1", "type": "command_execution", "exit_code": 2,
                                        "aggregated_output": "no rule", "status": "failed"}},
    {"type": "item.completed", "item": {"id": "2", "type": "agent_message", "text": "Done."}},
    {"type": "turn.completed", "usage": {"input_tokens": 150, "cached_input_tokens": 40, "output_tokens": 20}},
)  # fmt: skip
MINI: dict[str, Any] = {
    "trajectory_format": "mini-swe-agent-1.1",
    "info": {"exit_status": "Submitted", "mini_version": "2.4.6", "model_stats": {"instance_cost": 0.25}},
    "messages": [
        {"role": "user", "content": "Make it faster."},
        {"role": "assistant", "content": "Look.", "extra": {"response": {"model": "m-1"}, "actions": [
            {"tool_call_id": "c1", "command": "ls"}]}},
        {"role": "tool", "tool_call_id": "c1", "content": "toy", "extra": {"returncode": 0}},
    ],
}  # fmt: skip
CLAUDE: dict[str, Any] = {
    "type": "result", "subtype": "success", "is_error": False, "num_turns": 3, "result": "Done.",
    "total_cost_usd": 0.5, "usage": {"input_tokens": 7, "output_tokens": 5}, "modelUsage": {"m-1": {}},
}  # fmt: skip


def lines(*events: object) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


@pytest.fixture
def imported(omniperf: Omniperf, folder: Path) -> Callable[..., dict[str, Any]]:
    """Import one text; what was found."""

    def go(text: str, *flags: str) -> dict[str, Any]:
        (folder / "output").write_text(text)
        done = omniperf("import", "output", "--json", *flags)
        assert (done.returncode, done.stderr) == (0, "")
        (found,) = json.loads(done.stdout)["attempts"]
        return dict(found)

    return go


def test_the_seeds_are_shown_with_what_they_say_and_no_more(omniperf: Omniperf, folder: Path) -> None:
    for number in ("003", "004"):
        (folder / number).write_text(seed(number))
    done = omniperf("import", "003", "004", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    claude, codex = json.loads(done.stdout)["attempts"]
    assert (claude["turns"], claude["tool_calls"], claude["usd"]) == (62, None, pytest.approx(0.9089878))
    assert (claude["input_tokens"], claude["cached_tokens"], claude["output_tokens"]) == (1_087_021, 1_024_946, 13_500)
    assert [model.split(".")[2][:15] for model in claude["models"]] == ["claude-opus-4-5", "claude-sonnet-4"]
    assert (codex["client_version"], codex["models"], codex["tool_calls"]) == ("0.60.1", ["gpt-5"], 17)
    assert {codex[name] for name in ("usd", "input_tokens", "output_tokens", "total_tokens")} == {None}
    assert {one["verdict"]["class"] for one in (claude, codex)} == {"unverified"}

    shown = omniperf("show").stdout
    for fact in (
        "unverified  claude-code.1", "imported: nothing was measured", "62 turns",
        "1,087,021 (1,024,946 cached) + 13,500",
        "$0.91, as it says", "tool calls    unknown", "unverified  codex.2", "codex 0.60.1", "17 calls, 4 failed",
        "USD           unknown",
    ):  # fmt: skip
        assert fact in shown, fact
    run = json.loads(done.stdout)["run_id"]
    assert "codex.2" not in omniperf("show", f"{run}/imported/claude-code.1").stdout
    trajectory = list(read_lines(folder / "results" / run / "imported" / "codex.2" / "trajectory.jsonl"))
    calls = [line for line in trajectory if line["kind"] == "call"]
    assert (len(calls), calls[0]["command"]) == (17, "ls -la")
    assert omniperf("verify", run).returncode == 2


def test_every_kind_of_output_is_recognised(imported: Callable[..., dict[str, Any]]) -> None:
    for name, text in {
        "claude-code": lines(CLAUDE),
        "codex": lines(*CODEX),
        "mini-swe-agent": json.dumps(MINI, indent=1),
        "trae": json.dumps({**TRAE, "end_time": "2026-11-21T10:01:00", "success": True, "final_result": "Done."}),
        "openhands": lines({"kind": "MessageEvent", "source": "agent", "llm_message": {"content": ["Done."]}}),
    }.items():
        found = imported(text)
        assert (found["agent"], found["says"]) == (name, "done")
        assert found == {**imported(text, "--format", name), "run_id": found["run_id"]}


def test_counts_are_those_of_the_client(imported: Callable[..., dict[str, Any]]) -> None:
    codex = imported(lines(*CODEX))
    assert (codex["turns"], codex["tool_calls"], codex["failed_calls"]) == (1, 1, 1)
    assert (codex["input_tokens"], codex["cached_tokens"], codex["output_tokens"], codex["usd"]) == (150, 40, 20, None)
    mini = imported(json.dumps(MINI))
    assert (mini["models"], mini["client_version"], mini["usd"], mini["total_tokens"]) == (["m-1"], "2.4.6", 0.25, None)
    listed = imported(json.dumps([{"type": "system", "claude_code_version": "2.1.0", "session_id": "s"}, CLAUDE]))
    assert (listed["client_version"], listed["session"], listed["turns"]) == ("2.1.0", "s", 3)


def test_an_output_that_breaks_off_does_not_say_how_it_ended(imported: Callable[..., dict[str, Any]]) -> None:
    torn = imported(lines(*CODEX[:4]) + '{"type": "turn.comp')
    assert (torn["says"], torn["turns"], torn["total_tokens"], torn["tool_calls"]) == (None, None, None, 1)
    failed = imported(lines(CODEX[0], {"type": "turn.failed", "error": {"message": "unexpected status 401"}}))
    assert (failed["says"], failed["failure"]) == ("failed", "unexpected status 401")


def test_numbers_that_cannot_be_are_unknown(imported: Callable[..., dict[str, Any]]) -> None:
    usage = {"input_tokens": 10**30, "output_tokens": -1}
    found = imported(lines({**CLAUDE, "num_turns": 10**30, "total_cost_usd": float("inf"), "usage": usage}))
    assert {found[name] for name in ("turns", "usd", "input_tokens", "total_tokens")} == {None}
    assert imported(lines({**CLAUDE, "usage": None}))["input_tokens"] is None


def test_no_terminal_obeys_what_was_imported_and_no_key_is_kept(omniperf: Omniperf, folder: Path) -> None:
    evil, key = "\x1b]0;t\x07\x1b[2J\u202ereversed", "sk-ant-" + "api03-0123456789abcdefghij"
    hostile = {**CLAUDE, "result": f"{evil} {key}", "session_id": evil, "modelUsage": {evil: {}}}
    (folder / "\x1b[2Joutput").write_text(lines(hostile))
    for done in (omniperf("import", "\x1b[2Joutput"), omniperf("show"), omniperf("show", "--json")):
        assert done.returncode == 0
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)
        assert key not in done.stdout
    kept = [path for path in (folder / "results").rglob("*") if path.is_file()]
    assert {path.name for path in kept} == {"imported.json", "trajectory.jsonl", "agent.stdout"}
    assert not [path for path in kept if key.encode() in path.read_bytes()]


def test_what_is_no_output_is_refused_in_one_sentence(omniperf: Omniperf, folder: Path) -> None:
    (folder / "prompt").write_text("Make it faster.\ncodex\nDone.\n")
    (folder / "deep").write_text("[" * 100_000)
    nested = "[" * 400 + "]" * 400
    (folder / "deeper").write_text(f'{{"type": "result", "result": {{"a": {nested}}}}}')
    (folder / "old").write_text(json.dumps({**MINI, "trajectory_format": "mini-swe-agent-1"}))
    (folder / "bytes").write_bytes(os.urandom(4096))
    (folder / "empty").touch()
    (folder / "large").touch()
    os.truncate(folder / "large", 2**40)
    os.mkfifo(folder / "pipe")
    for name in ("prompt", "deep", "old", "bytes", "empty", "large", "pipe", "/dev/zero", "missing", "."):
        done = omniperf("import", name)
        assert done.returncode in (1, 2), name
        assert done.stderr.count("\n") == 1, done.stderr
        assert "not written by OmniPerf" not in done.stderr  # no output of a client is
        assert (done.stdout, done.stderr.startswith("error: ")) == ("", True)
    done = omniperf("import", "deeper")
    assert "Traceback" not in done.stderr
    assert not (folder / "results").exists() or done.returncode == 0


def test_a_link_is_followed_and_a_byte_order_mark_is_no_text(omniperf: Omniperf, folder: Path) -> None:
    (folder / "real").write_text(lines(CLAUDE), encoding="utf-8-sig")
    (folder / "link").symlink_to("real")
    done = omniperf("import", "link", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["attempts"][0]["turns"] == 3
    (folder / "loop").symlink_to("loop")
    done = omniperf("import", "loop")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_what_can_be_read_is_kept_beside_what_cannot(omniperf: Omniperf, folder: Path) -> None:
    (folder / "good").write_text(lines(CLAUDE))
    (folder / "bad").write_text("no")
    done = omniperf("import", "bad", "good")
    assert done.returncode == 2
    assert "claude-code.2" in done.stdout
    assert "bad is no output of any client" in done.stderr
    assert omniperf("import", "good", "--format", "codex").returncode == 2
    assert "There is no format 'aider'" in omniperf("import", "good", "--format", "aider").stderr


def test_an_output_with_impossible_values_is_imported_and_so_are_those_after_it(
    omniperf: Omniperf, folder: Path
) -> None:
    strange = {**CLAUDE, "total_cost_usd": 10**400, "num_turns": 10**400, "modelUsage": {"m\ud800": {}}}
    names = [os.fsdecode(b"strange\xff"), "claude"]
    for name, output in zip(names, (strange, CLAUDE), strict=True):
        (folder / name).write_text(json.dumps(output))
    done = omniperf("import", *names, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)["attempts"]
    assert (first["usd"], first["turns"], first["models"], first["source"]) == (None, None, ["m?"], "strange?")
    assert (second["usd"], second["turns"]) == (0.5, 3)
