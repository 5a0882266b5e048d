"""Commands and services in a task file: what cannot be is refused with file, line and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.settings import Settings
from omniperf.tasks.load import load_task, task_sha256, workload_kind

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 'schema: omniperf/task/v1\nid: a\ntitle: b\nrepo: {path: library}\ntargets: ["a.py"]\n'
COMMAND = 'workload: {command: "python -m a"}\n'
SERVICE = 'workload: {serve: "python -m a {port}", load: load.py}\n'
RATE = "name: rate, unit: 1/s, direction: higher"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    folders = {"results": tmp_path / "results", "worktrees": tmp_path / "worktrees", "cache": tmp_path / "cache"}
    return Settings(**folders, tasks=tmp_path / "tasks")


def write(settings: Settings, rest: str) -> None:
    folder = settings.tasks / "a"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.yaml").write_text(HEAD + rest)
    (folder / "load.py").write_text("def setup(seed): ...\ndef run(state): ...\n")
    (folder / "data.json").write_text("{}")


def metrics(*rest: str) -> str:
    return "metrics:\n- {name: latency, primary: true}\n" + "".join(f"- {{{one}}}\n" for one in rest)


GOOD = {
    "a command": (COMMAND, "command"),
    "a command that says its kind": ('workload: {command: "x", kind: command}\n', "command"),
    "a command with a figure to show": (COMMAND + metrics(RATE + ", from: {regex: 'r: (.*)'}"), "command"),
    "a command's start-up": (
        'workload: {command: "x", ready: {regex: up}}\nmetrics: [{name: startup, primary: true}]\n', "command"
    ),
    "a service": (SERVICE, "service"),
    "a service with a figure that decides": (SERVICE + "metrics: [{" + RATE + ", primary: true}]\n", "service"),
    "a service without outputs": (
        'workload: {serve: "x {port}", load: load.py, outputs: none, reach: none}\ntests: [pytest]\n', "service"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rest", "kind"), GOOD.values(), ids=GOOD.keys())
def test_good(settings: Settings, rest: str, kind: str) -> None:
    write(settings, rest)
    assert workload_kind(load_task("a", settings)) == kind


BAD = {
    # name: (text, line, what is said, remedy)
    "nothing to time": ("workload: {args: [a]}\n", 6, "exactly one of file, command, serve; found none", "Keep one"),
    "two things to time": ("workload: {command: a, file: load.py}\n", 6, "found file and command", "Keep one"),
    "another kind": ("workload: {command: a, kind: module}\n", 6, "`command` is not of kind module", "Leave `kind`"),
    "a command that is empty": ('workload: {command: ""}\n', 6, "`command` is empty", "Write the command"),
    "an open quote": ("workload: {command: \"a 'b\"}\n", 6, "cannot be split into words", "Close its quotes"),
    "a port of a command": ("workload: {command: a, ready: {port: true}}\n", 6, "no port", "`ready: {regex: ...}`"),
    "no sign of readiness": (
        'workload:\n  command: a\n  ready: {seconds: 3}\n', 8, "exactly one sign of being ready", "`{port: true}`"
    ),
    "a wrong expression": ("workload: {command: a, ready: {regex: '('}}\n", 6, "not a regular expression", "Correct"),
    "no load generator": ('workload: {serve: "a {port}"}\n', 6, "`serve` needs `load`", "Add `load: load.py`"),
    "no port": ("workload: {serve: a, load: load.py}\n", 6, "does not say {port}", "--port {port}"),
    "a load generator that is not there": (
        'workload:\n  serve: "a {port}"\n  load: other.py\n', 8, "workload.load: there is no file other.py", "Write"
    ),
    "a file that is not there": (
        "workload:\n  command: a\n  files:\n  - data.json\n  - no.json\n", 10, "workload.files.1: there is no", "Write"
    ),
    "a file of the harness's name": (
        "workload: {command: a, files: [launch.py]}\n", 6, "the harness has a launch.py of its own", "Name the file"
    ),
    "a server that sees its load": (
        'workload: {serve: "a {port}", load: load.py, files: [load.py]}\n', 6, "the server must not see", "`files`"
    ),
    "outputs of a command": (
        "workload: {command: a, outputs: none}\n", 6, "`outputs` has no meaning beside `command`", "Remove `outputs`"
    ),
    "nothing to judge by": (
        'workload: {serve: "a {port}", load: load.py, outputs: none}\n', 6, "nothing would judge a patch", "Add `tests`"
    ),
    "a printed figure that decides": (
        COMMAND + "metrics: [{" + RATE + ", primary: true, from: {regex: 'r: (.*)'}}]\n", 7,
        "rate is printed by a process that runs the tree's code, which could print anything, so it decides nothing",
        "shown beside the verdict",
    ),
    "a printed figure that guards": (
        COMMAND + metrics(RATE + ", guard: 1.1, from: {json: a.b}"), 7, "so it decides nothing", "Remove `primary`"
    ),
    "a script's figure that decides": (
        "workload: {file: load.py, kind: script}\nmetrics: [{" + RATE + ", primary: true, from: {json: a}}]\n", 7,
        "so it decides nothing", "Remove `primary`",
    ),
    "a figure of a module": (
        "workload: load.py\n" + metrics(RATE + ", from: {json: a}"), 7, "a module prints no figures", "Remove it"
    ),
    "a figure from nowhere": (COMMAND + metrics(RATE), 7, "rate is not among what is measured", "`from: {regex"),
    "two places": (
        SERVICE + metrics(RATE + ", from: {json: a, regex: '(a)'}"), 9, "exactly one of regex, json", "`{json: a.b}`"
    ),
    "an expression without a group": (
        SERVICE + metrics(RATE + ", from: {regex: a}"), 9, "must have exactly one group", "Correct"
    ),
    "start-up without a sign": (
        COMMAND + "metrics: [{name: startup, primary: true}]\n", 7, "startup needs a sign", "Give a command `ready"
    ),
    "start-up of a module": ("workload: load.py\n" + metrics("name: startup, guard: 1.1"), 7, "needs a sign", "Give"),
    "memory of a command": (
        COMMAND + metrics("name: peak_memory, unit: MiB"), 7, "is measured for workloads of the kind module", "Write"
    ),
    "latency that is read": (
        SERVICE + "metrics: [{name: latency, primary: true, from: {json: a}}]\n", 7, "is measured, never read", "Remove"
    ),
    "more latency is better": (
        SERVICE + "metrics: [{name: latency, primary: true, direction: higher}]\n", 7, "less is better", "`direction"
    ),
    "latency in another unit": (
        SERVICE + "metrics: [{name: latency, primary: true, unit: ms}]\n", 7, "is measured in s, not ms", "`unit: s`"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rest", "line", "said", "remedy"), BAD.values(), ids=BAD.keys())
def test_refused(settings: Settings, rest: str, line: int, said: str, remedy: str) -> None:
    write(settings, rest)
    with pytest.raises(UsageError) as caught:
        load_task("a", settings)
    message = str(caught.value)
    assert message.startswith(f"tasks/a/task.yaml:{line}: "), message
    assert said in message
    assert remedy in message.partition(said)[2]


def test_every_file_that_is_named_is_part_of_the_hash(settings: Settings) -> None:
    write(settings, 'workload: {serve: "a {port}", load: load.py, files: [data.json]}\n')
    seen = {task_sha256(load_task("a", settings))}
    for name in ("load.py", "data.json"):
        (settings.tasks / "a" / name).write_text("other")
        seen.add(task_sha256(load_task("a", settings)))
    assert len(seen) == 3
