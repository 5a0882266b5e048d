"""Sweeps through the command line: interrupted, killed between patch and verdict, changed, started twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from omniperf.results.store import load_result, read_lines
from tests.agents.loopback import Call, Loopback, Say, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.tasks.schema import Task
    from tests.sweep.commands import Sweeps

SECONDS = 60.0  # that anything here may take on a busy machine


@pytest.fixture
def task(make_task: Callable[..., Task]) -> Task:
    return make_task()


def write(folder: Path, task: Task, attempts: int, *, verify: bool) -> str:
    file = folder / "sweep.yaml"
    file.write_text(
        f"schema: omniperf/sweep/v1\ntasks: [{task.folder}]\nagents: [oracle]\n"
        f"attempts: {attempts}\nverify: {str(verify).lower()}\n"
    )
    return str(file)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def journal(sweeps: Sweeps) -> list[dict[str, object]]:
    runs = list(sweeps.settings.results.glob("*/journal.jsonl"))
    return list(read_lines(runs[0])) if runs else []


def test_one_interrupt_finishes_what_is_running(sweeps: Sweeps, task: Task, tmp_path: Path) -> None:
    process = sweeps.start("sweep", write(tmp_path, task, 40, verify=False), "--jobs", "2", "--json")
    wait_for(lambda: sum(line["kind"] == "ended" for line in journal(sweeps)) >= 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    said = json.loads(out)
    assert said["stopped"] == "interrupted"
    assert 2 <= said["finished"] < 40
    started = [line["attempt"] for line in journal(sweeps) if line["kind"] == "started"]
    assert len(started) == said["finished"]
    done = json.loads(sweeps.run("resume", "latest", "--jobs", "4", "--json"))
    assert (done["finished"], done["unfinished"]) == (40, 0)
    started = [line["attempt"] for line in journal(sweeps) if line["kind"] == "started"]
    assert len(started) == len(set(started)) == 40


def test_two_interrupts_stop_at_once(sweeps: Sweeps, task: Task, tmp_path: Path) -> None:
    process = sweeps.start("sweep", write(tmp_path, task, 40, verify=True), "--jobs", "1", "--json")
    wait_for(lambda: any(line["kind"] == "started" for line in journal(sweeps)))
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    (run,) = sweeps.settings.results.iterdir()
    assert not list(run.glob("*/*/result.json"))
    assert not sweeps.settings.worktrees.exists() or not list(sweeps.settings.worktrees.rglob("tree"))


def test_an_interrupt_before_the_first_attempt_stops_at_once_and_leaves_nothing(
    sweeps: Sweeps, task: Task, tmp_path: Path
) -> None:
    tests, file = f"sleep 20.{os.getpid()}", task.folder / "task.yaml"
    file.write_text(file.read_text().replace("python -m unittest -q tests.test_order", tests))
    process = sweeps.start("sweep", write(tmp_path, task, 2, verify=False), "--jobs", "1")
    wait_for(lambda: tests in commands())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted")
    assert not sweeps.settings.results.exists()
    assert not list(sweeps.settings.worktrees.glob("*"))
    wait_for(lambda: tests not in commands())


def test_what_a_kill_before_the_first_attempt_leaves_is_cleaned_but_not_what_runs(
    sweeps: Sweeps, task: Task, tmp_path: Path
) -> None:
    tests, file = f"sleep 40.{os.getpid()}", task.folder / "task.yaml"
    file.write_text(file.read_text().replace("python -m unittest -q tests.test_order", tests))
    sweeps.env["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    process = sweeps.start("sweep", write(tmp_path, task, 2, verify=False), "--jobs", "1")
    wait_for(lambda: tests in commands())
    assert json.loads(sweeps.run("clean", "--json")) == []  # it is being made ready
    process.kill()
    process.communicate()
    wait_for(lambda: tests not in commands())
    assert len(json.loads(sweeps.run("clean", "--json", "--results", str(tmp_path / "elsewhere")))) == 1
    assert not list(sweeps.settings.worktrees.iterdir())
    assert not list((tmp_path / "tmp").iterdir())
    records = sweeps.settings.cache.glob("seals/*/worktrees/*/gitdir")  # the cache is other tests' too
    assert not [one for one in records if one.read_text().startswith(str(sweeps.settings.worktrees))]


def commands() -> str:
    """The command lines of all processes."""
    return subprocess.run(("ps", "-ewwo", "args"), capture_output=True, text=True, check=True).stdout


def test_a_patch_that_was_collected_is_only_measured(sweeps: Sweeps, task: Task, tmp_path: Path) -> None:
    process = sweeps.start("sweep", write(tmp_path, task, 1, verify=True), "--jobs", "1", "--json")
    place = Path()

    def collected() -> bool:
        nonlocal place
        for place in sweeps.settings.results.glob("*/toy/oracle.1"):
            return any(line["kind"] == "collected" for line in read_lines(place / "journal.jsonl"))
        return False

    wait_for(collected)
    process.kill()
    process.communicate()
    assert not (place / "result.json").exists()
    before = (place / "model_patch.diff").read_bytes()
    sweeps.run("resume", "latest", "--jobs", "1")
    result = load_result(place)
    assert (result.verdict.class_, result.outcome.kind) == ("improved", "finished")
    assert result.usage.steps > 0
    assert result.usage.device_seconds > 0
    assert (place / "model_patch.diff").read_bytes() == before
    kinds = [line["kind"] for line in read_lines(place / "journal.jsonl")]
    assert kinds.count("attempt") == 1
    assert kinds[kinds.index("collected") :] == ["collected", "resumed", "verified", "result"]


def test_a_sweep_runs_once_at_a_time(sweeps: Sweeps, task: Task, tmp_path: Path) -> None:
    process = sweeps.start("sweep", write(tmp_path, task, 400, verify=False), "--jobs", "1", "--json")
    wait_for(lambda: any(line["kind"] == "started" for line in journal(sweeps)))
    second = sweeps.start("resume", "latest")
    _, said = second.communicate(timeout=SECONDS)
    assert second.returncode == 2
    assert "is still running" in said
    assert "preflight" not in said
    process.kill()
    process.communicate()


def test_a_task_that_has_changed_is_not_gone_on_with(sweeps: Sweeps, task: Task, tmp_path: Path) -> None:
    """But only where something of it is left to do."""
    sweeps.run("sweep", write(tmp_path, task, 2, verify=False), "--json")
    workload, file = task.folder / "workload.py", task.folder / "task.yaml"
    workload.write_text(workload.read_text() + "# another\n")
    assert json.loads(sweeps.run("resume", "latest", "--json"))["unfinished"] == 0
    (place,) = sweeps.settings.results.glob("*/toy/oracle.2")
    (place / "result.json").unlink()
    for change, why in ((lambda: None, "it says something else"), (file.unlink, "There is no task file")):
        change()
        process = sweeps.start("resume", "latest")
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 2
        assert f"Task toy is not as it was when the sweep began: {why}" in said
        assert f"Restore {file}" in said


def test_nothing_is_written_where_something_cannot_run(sweeps: Sweeps, task: Task) -> None:
    process = sweeps.start("sweep", "--task", str(task.folder), "--agent", "null", "--agent", "anthropic:m")
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert "needs a key in ANTHROPIC_API_KEY" in said
    assert not sweeps.settings.results.exists()


def test_the_attempts_end_with_who_started_them(sweeps: Sweeps, task: Task, tmp_path: Path) -> None:
    process = sweeps.start("sweep", write(tmp_path, task, 400, verify=True), "--jobs", "2")
    wait_for(lambda: sum(line["kind"] == "started" for line in journal(sweeps)) == 2)
    family = subprocess.run(("ps", "-eo", "pid,args"), capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) in family or "omniperf.sweep.launcher" in family
    process.kill()
    process.communicate()
    seen = {str(sweeps.settings.worktrees), str(sweeps.settings.results)}
    wait_for(lambda: not any(_uses(pid, seen) for pid in Path("/proc").glob("[0-9]*")))


def _uses(process: Path, folders: set[str]) -> bool:
    if int(process.name) == os.getpid():
        return False
    try:
        held = [str(one.readlink()) for one in (process / "fd").iterdir()]
    except OSError:
        return False
    return any(text.startswith(folder) for text in held for folder in folders)


def test_an_agent_with_a_model_goes_on_from_its_last_complete_step(
    sweeps: Sweeps, task: Task, tmp_path: Path, server: Loopback
) -> None:
    commands = [f"echo {at} >> toy/notes.py" for at in range(6)]
    script = [Say("t", (("bash", {"command": command}),)) for command in commands]
    script += [Say("t", (("finish", {"summary": "done"}),))] * 2
    asked: list[int] = []

    def step(call: Call) -> Step:
        done = sum(item["role"] == "assistant" for item in call.body["messages"])
        asked.append(done)
        if asked.count(3) == 1 and done == 3:
            killed.wait(SECONDS)  # the model takes its time over the fourth turn, and the sweep is killed meanwhile
        return script[min(done, len(script) - 1)]

    killed = Event()
    server.play(step)
    file = tmp_path / "sweep.yaml"
    options = f"{{model: claude-opus-5-5, base_url: '{server.url}'}}"
    file.write_text(
        f"schema: omniperf/sweep/v1\ntasks: [{task.folder}]\n"
        f"agents: [{{agent: anthropic, options: {options}}}]\nverify: false\n"
    )
    sweeps.env["ANTHROPIC_API_KEY"] = "sk-ant-nobody's"
    process = sweeps.start("sweep", str(file), "--json")
    wait_for(lambda: 3 in asked or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    killed.set()
    sweeps.run("resume", "latest", "--json")
    (place,) = sweeps.settings.results.glob("*/toy/anthropic.1")
    assert asked[:4] == [0, 1, 2, 3]
    assert asked[4] == 3
    assert (place / "model_patch.diff").read_text().count("\n+") == len(commands) + 1
    assert load_result(place).usage.steps >= len(commands)
    assert not (place.parent.parent / "interrupted").exists()
