"""What counts as the same request, and what of a recorded reply is another's when it is played."""

from __future__ import annotations

import json

import pytest

from omniperf.gateway.recording import difference, for_its_commands

ONE, OTHER = "ab439b9f-fb6f-5376-a79b-cced6fd90443", "dd3c50c8-c022-5d2d-bc81-af8b5eeda642"


@pytest.mark.parametrize(
    ("recorded", "seen", "same"),
    [
        (ONE, OTHER, True),
        (f"msg_{ONE}", f"msg_{OTHER}", True),
        (f"msg_{ONE}", f"fco_{OTHER}", False),
        (f"a{ONE}", f"b{OTHER}", False),  # no id, with a letter more
        ("Chunk ID: a46a26\nOutput:\n1", "Chunk ID: 5acdc4\nOutput:\n1", True),
        ("Chunk ID: a46a26\nOutput:\n1", "Chunk ID: 5acdc4\nOutput:\n2", False),
        ("a46a26", "5acdc4", False),
        ("Process running with session ID 72244\n", "Process running with session ID 4921\n", True),
        ('{"exit_code":0,"duration_seconds":0.0}', '{"exit_code":0,"duration_seconds":0.1}', True),
        ("Process exited with code 0", "Process exited with code 1", False),
        ('{"session_id": 72244, "chars": ""}', '{"session_id": 4921, "chars": ""}', True),
        ('{"session_id": 72244, "chars": ""}', '{"session_id": 72244, "chars": "y"}', False),
    ],
)
def test_only_ids_and_times_are_set_aside(recorded: str, seen: str, same: bool) -> None:
    assert (difference([recorded], [seen]) == "") is same


def test_a_command_that_runs_on_is_called_by_the_number_it_has_now() -> None:
    def request(*numbers: int) -> dict[str, object]:
        outputs = [f"Wall time: 1 s\nProcess running with session ID {number}\n" for number in numbers]
        return {"input": [{"type": "function_call_output", "output": output} for output in outputs]}

    def reply(*numbers: int) -> bytes:
        calls = [{"arguments": json.dumps({"session_id": number, "chars": "72244"})} for number in numbers]
        return b"data: " + json.dumps(calls).encode() + b"\n\n"

    then, now = request(72244, 15990), request(15990, 333)
    assert for_its_commands(reply(15990, 72244, 1), then, now) == reply(333, 15990, 1)
    assert for_its_commands(reply(72244), {"input": "go on"}, {"input": "go on"}) == reply(72244)
