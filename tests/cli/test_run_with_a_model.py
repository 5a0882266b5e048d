"""`omniperf run --agent anthropic|openai` as a user types it: what is refused, how, and with which exit code."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.measure.nvml import gpus
from tests.agents.loopback import Fail, Loopback, Say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.tasks.schema import Task

KEY = "sk-secret-0123456789"
Omniperf = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


def test_the_agents_with_a_model_are_listed(omniperf: Omniperf) -> None:
    listed = {row["name"]: row for row in json.loads(omniperf("agents", "--json").stdout)}
    assert {"anthropic", "openai"} <= set(listed)
    assert not any(row["error"] for row in listed.values())


def test_a_missing_key_or_model_is_a_usage_error(omniperf: Omniperf) -> None:
    done = omniperf("run", "quickstart", "--agent", "anthropic", "--model", "m", ANTHROPIC_API_KEY="")
    assert done.returncode == 2
    assert done.stderr == "error: The agent 'anthropic' needs a key in ANTHROPIC_API_KEY. Set that variable.\n"
    done = omniperf("run", "quickstart", "--agent", "openai", OPENAI_API_KEY=KEY)
    assert done.returncode == 2
    assert done.stderr == "error: The agent 'openai' needs a model. Name one with --model.\n"


def test_a_refused_key_is_one_sentence_and_exit_code_1(omniperf: Omniperf, server: Loopback, folder: Path) -> None:
    server.probe = Fail(401, "authentication_error", "invalid key {authorization}")
    model = ("--model", "claude-opus-5-5", "--base-url", server.url)
    done = omniperf("run", "quickstart", "--agent", "anthropic", *model, ANTHROPIC_API_KEY=KEY)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == (
        "error: anthropic refused the key (model claude-opus-5-5): 401: invalid key Bearer ***. "
        "Check the key in ANTHROPIC_API_KEY."
    )
    assert KEY not in done.stderr + done.stdout
    assert not (folder / "results").exists()


@pytest.mark.skipif(bool(gpus()), reason="this host has a GPU")
def test_nothing_is_asked_where_the_host_cannot_measure(
    omniperf: Omniperf, server: Loopback, make_task: Callable[..., Task]
) -> None:
    task = make_task("resources: {gpus: 1}")
    flags = ("--agent", "anthropic", "--model", "m", "--base-url", server.url)
    done = omniperf("run", str(task.folder), *flags, ANTHROPIC_API_KEY=KEY)
    assert done.returncode == 1
    assert "needs 1 NVIDIA GPU(s); this host has 0 of 0. Run `omniperf doctor`" in done.stderr
    assert (server.calls, server.probes) == ([], [])


def test_nothing_is_asked_before_base_is_proved(
    omniperf: Omniperf, server: Loopback, make_task: Callable[..., Task], bubblewrap: None
) -> None:
    task = make_task(workload="def setup(seed): return seed\ndef run(state): return state\n")
    flags = ("--agent", "anthropic", "--model", "m", "--base-url", server.url)
    done = omniperf("run", str(task.folder), *flags, ANTHROPIC_API_KEY=KEY)
    assert done.returncode == 2
    assert "executes no function of its targets" in done.stderr
    assert (server.calls, server.probes) == ([], [])


def test_a_whole_run_says_which_model_it_was_and_what_it_cost(
    omniperf: Omniperf, server: Loopback, make_task: Callable[..., Task], bubblewrap: None, tmp_path: Path
) -> None:
    task = make_task("measure: {max_minutes: 0.2}")
    server.play([Say("", (("finish", {"summary": "nothing to do"}),))])
    flags = ("--model", "gpt-6.2-sol", "--base-url", f"{server.url}/v1", "--api", "chat", "--json")
    done = omniperf("run", str(task.folder), "--agent", "openai", *flags, OPENAI_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    attempt = json.loads(done.stdout)["attempts"][0]
    assert attempt["identity"]["model"] == "a-model-2026-11-01"
    assert attempt["usage"]["usd"] == pytest.approx((100 * 2 + 40 * 0.1 + 10 * 2.5 + 20 * 10) / 1e6)
    assert attempt["verdict"]["class"] == "no_patch"
    assert KEY not in done.stdout + done.stderr


def test_without_walls_a_key_that_a_command_finds_is_blotted_out(
    omniperf: Omniperf, server: Loopback, make_task: Callable[..., Task], folder: Path
) -> None:
    task = make_task("measure: {max_minutes: 0.2}")
    spy = "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep API_KEY"
    server.play([Say("", (("bash", {"command": spy}),)), Say("", (("finish", {"summary": "no"}),))])
    flags = ("--model", "gpt-6.2-sol", "--base-url", f"{server.url}/v1", "--api", "chat", "--sandbox", "none")
    done = omniperf("run", str(task.folder), "--agent", "openai", *flags, OPENAI_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    (found,) = (message["content"] for message in server.calls[1].body["messages"] if message["role"] == "tool")
    assert "OPENAI_API_KEY=***\n" in found
    assert KEY not in json.dumps([call.body for call in server.calls])
    assert KEY not in done.stdout + done.stderr
    made = [path for path in folder.rglob("*") if path.is_file()]
    assert {"trajectory.jsonl", "journal.jsonl"} <= {path.name for path in made}
    assert [path for path in made if KEY.encode() in path.read_bytes()] == []


def test_a_replay_that_is_not_as_its_recording_exits_with_1(
    omniperf: Omniperf, server: Loopback, make_task: Callable[..., Task], bubblewrap: None
) -> None:
    task = make_task("measure: {max_minutes: 0.2}")
    server.play([Say("", (("bash", {"command": "true"}),)), Say("", (("finish", {"summary": "no"}),))])
    flags = ("--model", "gpt-6.2-sol", "--base-url", f"{server.url}/v1", "--api", "chat", "--json")
    done = omniperf("run", str(task.folder), "--agent", "openai", *flags, OPENAI_API_KEY=KEY)
    recorded = Path(json.loads(done.stdout)["folder"], "toy", "openai.1")
    again = ("run", str(task.folder), "--agent", "replay", "--from", str(recorded))
    assert omniperf(*again).returncode == 0
    exchanges = recorded / "exchanges.jsonl"
    exchanges.write_text(exchanges.read_text().replace('\\"true\\"', '\\"false\\"'))
    done = omniperf(*again)
    assert (done.returncode, "the replay diverged" in done.stdout) == (1, True), done.stdout + done.stderr
