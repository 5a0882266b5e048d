"""What clients print, read: pieces of real outputs, and what no client should print."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from omniperf.agents.external.claude_code import ClaudeCodeReader
from omniperf.agents.external.codex import CodexReader, read_log
from omniperf.agents.external.mini_swe_agent import MiniReader
from omniperf.agents.external.openhands import OpenHandsReader
from omniperf.agents.external.stream import UNREADABLE, Answered, Called, Reader, Said, Seen
from omniperf.agents.external.trae import TraeReader
from omniperf.gateway.tokens import Tokens


def seed(number: str) -> str:
    shared = Path(os.environ.get("OMNIPERF_SHARED", Path(__file__).parents[4] / "shared"))
    found = sorted((shared / "seeds").glob(f"{number}_*.txt"))
    if not found:
        pytest.skip("the seeds are not at hand: name the folder that has seeds/ in OMNIPERF_SHARED")
    return found[0].read_text()


def read(reader: Reader, *events: object) -> list[Seen]:
    return [seen for event in events for seen in reader.line(json.dumps(event))]


def test_claude_codes_result_of_an_earlier_version_is_read() -> None:
    reader = ClaudeCodeReader()
    assert list(reader.line(seed("003"))) == []
    report = reader.report
    assert (report.ended, report.ok, report.turns, report.denials) == (True, True, 62, [])
    assert report.usd == pytest.approx(0.9089878)
    assert report.tokens == Tokens(5127, 1_024_946, 56_948, 13_500)
    assert [model.split(".")[-1].split("-v1")[0] for model in report.models] == [
        "claude-opus-4-5-20251101",
        "claude-sonnet-4-5-20250929",
    ]
    assert report.session == "0667c67f-a1d1-469d-900d-11c9c6ed7308"
    assert report.final.startswith("## Summary")


def test_codexs_log_of_an_earlier_version_is_read() -> None:
    report, seen = read_log(seed("004"))
    assert (report.session, report.models) == ("019aa517-180c-7290-99ac-cbf980f62780", ["gpt-5"])
    assert report.ended
    assert report.final
    commands = [one for one in seen if isinstance(one, Called) and one.tool == "shell"]
    assert commands[0].command == "ls -la"
    assert all(one.command for one in commands)
    answers = {one.id: one for one in seen if isinstance(one, Answered)}
    assert answers[commands[0].id].exit_code == 0
    assert {one.exit_code for one in answers.values()} <= set(range(256))
    log = seed("004")
    assert len(commands) == log.splitlines().count("exec")
    assert sum(one.tool == "apply_patch" for one in seen if isinstance(one, Called)) == log.count("\napply_patch(")


@pytest.mark.parametrize("took", ["25ms", "1.20s", "1m 01s", "60m 01s"])
@pytest.mark.parametrize("how", ["bash -lc 'sleep 61; exit 3' in /my work", "bash -lc 'sleep 61; exit 3' in /tmp\n"])
def test_a_command_of_codexs_log_has_its_result_however_long_it_took(how: str, took: str) -> None:
    gap = "" if how.endswith("\n") else " "
    report, seen = read_log(f"OpenAI Codex v0.60.1\nexec\n{how}{gap}exited 3 in {took}:\nlate\ncodex\nDone.\n")
    call, answer = seen[0], seen[1]
    assert isinstance(call, Called)
    assert isinstance(answer, Answered)
    assert call.command.startswith("sleep 61; exit 3" if gap else "bash -lc")
    assert (answer.output, answer.exit_code, answer.failed) == ("late", 3, True)
    assert report.final == "Done."


def test_why_a_tool_of_an_mcp_server_failed_is_its_result() -> None:
    item = {"id": "1", "type": "mcp_tool_call", "server": "omniperf", "tool": "test", "arguments": {}}
    failed = {**item, "result": None, "error": {"message": "timed out awaiting tools/call"}, "status": "failed"}
    seen = read(CodexReader(), {"type": "item.started", "item": item}, {"type": "item.completed", "item": failed})
    assert seen == [
        Called("1", "omniperf.test", input={}),
        Answered("1", "timed out awaiting tools/call", failed=True),
    ]


def test_success_of_claude_code_is_more_than_its_subtype() -> None:
    reader = ClaudeCodeReader()
    said = "Failed to authenticate. API Error: 401 invalid x-api-key"
    read(reader, {"type": "result", "subtype": "success", "is_error": True, "api_error_status": 401, "result": said})
    assert (reader.report.ok, reader.report.failure, reader.report.said) == (False, "auth", said)
    reader = ClaudeCodeReader()
    denials = [{"tool_name": "Write", "tool_use_id": "t"}]
    result = {"type": "result", "subtype": "success", "is_error": False, "result": "Done.", "num_turns": 2}
    read(reader, {**result, "permission_denials": denials})
    assert (reader.report.ok, reader.report.denials) == (True, ["Write"])


def test_a_second_result_of_claude_code_adds_its_turns_alone() -> None:
    reader = ClaudeCodeReader()
    for turns, usd in ((3, 0.5), (1, 0.6)):
        result = {"type": "result", "subtype": "success", "is_error": False, "num_turns": turns, "total_cost_usd": usd}
        read(reader, result)
    assert (reader.report.turns, reader.report.usd) == (4, 0.6)


def test_a_try_that_codex_makes_again_is_no_failure() -> None:
    reader = CodexReader()
    read(reader, {"type": "turn.started"}, {"type": "error", "message": "Reconnecting... 1/5"})
    assert not reader.report.ended
    read(reader, {"type": "turn.completed", "usage": {"input_tokens": 150, "cached_input_tokens": 40}})
    assert (reader.report.ok, reader.report.tokens) == (True, Tokens(110, 40, 0, 0))
    read(reader, {"type": "turn.failed", "error": {"message": "exceeded retry limit, last status: 429"}})
    assert (reader.report.ok, reader.report.failure) == (False, "throttled")


def test_codexs_patches_and_commands_are_calls_with_results() -> None:
    command = {"id": "1", "type": "command_execution", "command": "bash -lc 'false; true'"}
    change = {"id": "2", "type": "file_change", "changes": [{"path": "a.py", "kind": "update"}], "status": "completed"}
    done = {**command, "exit_code": 2, "status": "failed", "aggregated_output": "no"}
    seen = read(
        CodexReader(),
        {"type": "item.started", "item": command},
        {"type": "item.completed", "item": done},
        {"type": "item.started", "item": change},
        {"type": "item.completed", "item": change},
    )
    assert seen == [
        Called("1", "shell", "false; true"),
        Answered("1", "no", 2, failed=True),
        Called("2", "apply_patch", input=change["changes"]),
        Answered("2", ""),
    ]


TRAE: dict[str, Any] = {
    "task": "t", "start_time": "2026-11-21T10:00:00", "end_time": "", "provider": "anthropic", "model": "m",
    "max_steps": 9, "success": False, "final_result": None, "execution_time": 0.0,
    "llm_interactions": [
        {"response": {"model": "m-1", "content": "Look.", "usage": {"input_tokens": 100, "output_tokens": 20}}}
    ],
    "agent_steps": [
        {
            "step_number": 1, "state": "completed", "llm_response": {"content": "Look."}, "error": None,
            "tool_calls": [{"call_id": "c1", "name": "bash", "arguments": {"command": "ls"}}],
            "tool_results": [{"call_id": "c1", "success": True, "result": "toy", "error": None}],
        }
    ],
}  # fmt: skip


def test_traes_growing_trajectory_is_read_once() -> None:
    reader = TraeReader()
    first = list(reader.document(TRAE))
    assert first == [Said("Look."), Called("c1", "bash", "ls", {"command": "ls"}), Answered("c1", "toy")]
    assert list(reader.document(TRAE)) == []
    assert not reader.report.ended
    list(reader.document({**TRAE, "end_time": "2026-11-21T10:01:00", "success": True, "final_result": "Done."}))
    report = reader.report
    assert (report.ok, report.final, report.turns, report.models) == (True, "Done.", 1, ["m-1"])
    assert report.tokens == Tokens(100, 0, 0, 20)


def test_exit_status_0_of_mini_is_not_success() -> None:
    reader = MiniReader()
    info = {"exit_status": "LimitsExceeded", "model_stats": {"instance_cost": 0.5, "api_calls": 3}}
    list(reader.document({"messages": [], "info": info}))
    assert (reader.report.ok, reader.report.failure, reader.report.usd) == (False, "turns", 0.5)


def test_a_reply_that_mini_cannot_use_is_a_turn_with_a_failed_call_and_tokens_are_added_up() -> None:
    usage = {"prompt_tokens": 150, "completion_tokens": 20}
    usage |= {"prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10}}
    call = {"id": "c2", "type": "function", "function": {"name": "fly", "arguments": "{}"}}
    reply = {"role": "assistant", "content": "two", "tool_calls": [call]}
    messages = [
        {"role": "user", "content": "Make it faster."},
        {"role": "assistant", "content": "one", "extra": {
            "actions": [{"tool_call_id": "c1", "command": "sleep 99"}], "response": {"model": "m-1", "usage": usage}}},
        {"role": "tool", "tool_call_id": "c1", "content": "{}",
         "extra": {"returncode": -1, "raw_output": "", "exception_info": "timed out after 9 seconds"}},
        {"role": "user", "content": "Unknown tool 'fly'.", "extra": {
            "interrupt_type": "FormatError",
            "response": {"model": "m-1", "usage": usage, "choices": [{"message": reply}]}}},
    ]  # fmt: skip
    reader = MiniReader()
    assert list(reader.document({"messages": messages, "info": {}})) == [
        Said("one"),
        Called("c1", "bash", "sleep 99"),
        Answered("c1", "timed out after 9 seconds", -1, failed=True),
        Said("two"),
        Called("c2", "fly", input="{}"),
        Answered("c2", "Unknown tool 'fly'.", failed=True),
    ]
    assert (reader.report.turns, reader.report.models) == (2, ["m-1"])
    assert reader.report.tokens == Tokens(200, 80, 20, 40)


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ('File "loop.py", line 401, in step: KeyError', "agent"),
        ("ValueError: 500 items are too many for one status", "network"),
        ("Timeout in a connect of port 4290", "network"),
        ("RateLimitError: status code 429", "throttled"),
    ],
)
def test_a_number_in_a_clients_last_words_is_no_status(said: str, failure: str) -> None:
    reader = MiniReader()
    list(reader.document({"messages": [], "info": {"exit_status": "Crash", "exception_str": said}}))
    assert reader.report.failure == failure


def test_an_error_after_openhands_finish_counts() -> None:
    reader = OpenHandsReader()
    call = {"tool_name": "terminal", "tool_call_id": "c1"}
    seen = read(
        reader,
        {"kind": "ActionEvent", **call, "action": {"command": "ls"}},
        {"kind": "ObservationEvent", **call, "observation": {"content": [{"text": "toy"}], "exit_code": 0}},
        {"kind": "ActionEvent", "tool_name": "finish", "action": {"message": "Done."}},
    )
    assert seen == [Called("c1", "terminal", "ls", {"command": "ls"}), Answered("c1", "toy", 0)]
    assert (reader.report.ok, reader.report.final) == (True, "Done.")
    read(reader, {"kind": "ConversationErrorEvent", "code": "AuthenticationError", "detail": "401: invalid key"})
    assert (reader.report.ok, reader.report.failure) == (False, "auth")


@pytest.mark.parametrize("usd", [True, -1, 10**400, float("inf"), float("nan"), "1", None])
def test_what_is_no_money_is_no_cost(usd: object) -> None:
    claude, mini = ClaudeCodeReader(), MiniReader()
    read(claude, {"type": "result", "total_cost_usd": usd})
    list(mini.document({"messages": [], "info": {"model_stats": {"instance_cost": usd}}}))
    assert (claude.report.usd, mini.report.usd) == (None, None)


def test_counts_that_nobody_had_stay_small_enough_to_be_written() -> None:
    reader, most = ClaudeCodeReader(), int("9" * 4300)
    for _ in range(2):
        read(reader, {"type": "result", "num_turns": most, "usage": {"input_tokens": most, "output_tokens": most}})
    json.dumps(reader.report.fields())
    assert reader.report.tokens is not None
    assert reader.report.tokens.total >= UNREADABLE
    for said in ("9" * 5000, "²"):
        assert read_log(f"OpenAI Codex v0.60.1\ncodex\nDone.\ntokens used\n{said}\n")[0].tokens is None


def test_half_a_surrogate_is_no_text() -> None:
    reader = ClaudeCodeReader()
    (said,) = read(reader, {"type": "assistant", "message": {
        "model": "m\ud800", "content": [{"type": "text", "text": "a\udfffb"}]}})  # fmt: skip
    assert said == Said("a?b")
    assert reader.report.models == ["m?"]


STRANGE = [
    *("", "not json", "{", "[]", "{}", '{"type": 3}', "[" * 100_000, '{"a":' * 100_000),
    '{"type": "result", "usage": [], "num_turns": -1}',
    '{"type": "assistant", "message": {"content": [3, {"type": "tool_use", "input": "x"}]}}',
    '{"type": "item.completed", "item": {"type": "command_execution", "exit_code": "0"}}',
    '{"kind": "ActionEvent", "action": 3}',
    '{"kind": "ObservationEvent", "observation": []}',
    '{"type": "turn.completed", "usage": {"input_tokens": "many"}}',
]


@pytest.mark.parametrize("make", [ClaudeCodeReader, CodexReader, OpenHandsReader])
def test_no_line_breaks_a_reader(make: type[Reader]) -> None:
    reader = make()
    for line in STRANGE:
        list(reader.line(line))
    json.dumps(reader.report.fields())


@pytest.mark.parametrize("make", [MiniReader, TraeReader])
def test_no_document_breaks_a_reader(make: type[Reader]) -> None:
    reader = make()
    for value in (None, [], {}, {"messages": 3, "info": []}, {"messages": [3, {"role": "assistant", "extra": 3}]},
                  {"agent_steps": [None], "llm_interactions": [{"response": 3}], "success": "yes"}):  # fmt: skip
        list(reader.document(value))
    json.dumps(reader.report.fields())
