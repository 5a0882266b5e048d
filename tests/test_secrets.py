"""A key goes to its provider and nowhere else: whatever an attempt meets, nothing that it leaves holds it."""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.agents.loopback import Fail, Loopback, Say
from tests.conftest import FAST, SLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

KEY = "sk-live/9+Q=7bX4w2kLmN0pRs"
QUICK = "measure: {max_minutes: 0.02}"
WRITTEN = (KEY, quote(KEY, safe=""), KEY[::-1], KEY.encode().hex(),
           *(base64.b64encode(f"{before}{KEY}".encode()).decode() for before in ("", "user:", "Bearer ")))  # fmt: skip
SOUGHT = [*WRITTEN[:4], *(text[len(text) - 30 : -4] for text in WRITTEN[4:])]  # of base64 without its edges
CRASH = """\
import sys, omniperf.attempt as attempt
def verify_patch(*args, **more):
    raise {error}
attempt.verify_patch = verify_patch
from omniperf.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


@pytest.fixture
def run(make_task: Callable[..., Task], settings: Settings, server: Loopback, bubblewrap: None) -> Callable[..., str]:
    """Run the agent `openai` on the toy task, as a user does; returns all that was printed."""

    def call(*flags: str, code: str = "from omniperf.cli import main; main()", setup: str = "") -> str:
        file = make_task(QUICK).folder / "task.yaml"
        if setup:
            file.write_text(file.read_text().replace("environment: {", f"environment: {{setup: [{setup!r}], "))
        command = ("run", str(file), "--agent", "openai", "--api", "chat", "--model", "gpt-6.2-sol")
        folders = [f"--{name}={getattr(settings, name)}" for name in ("results", "worktrees", "cache")]
        done = subprocess.run(
            (sys.executable, "-c", code, *command, f"--base-url={server.url}/v1", *folders, *flags),
            env={**os.environ, "OPENAI_API_KEY": KEY},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert server.calls, done.stderr
        assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
        return done.stdout + done.stderr

    return call


def holding(*places: Path) -> list[Path]:
    """The files below some folders that hold the key, or whose name does."""
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    sought = [one.encode() for one in SOUGHT]
    return [file for file in files if any(one in os.fsencode(file) or one in file.read_bytes() for one in sought)]


def test_an_agent_that_has_the_key_can_write_it_nowhere_that_stays(
    run: Callable[..., str], server: Loopback, settings: Settings
) -> None:
    loop, new = (text[SLOW.index("    seen = []") :] for text in (SLOW, FAST))
    lines = "".join(f"    # {one}\n" for one in WRITTEN)
    edit = {"command": "str_replace", "path": "toy/order.py", "old": loop, "new": lines + new}
    say = (
        f"echo '{KEY}' > /tmp/key; cat /tmp/key; base64 -w0 /tmp/key; rev /tmp/key; od -An -tx1 /tmp/key | tr -d ' \\n'"
    )
    server.play(
        [
            Say(f"I know {KEY}.", (("bash", {"command": say}), ("edit", edit), ("commit", {"message": KEY}))),
            Say("", (("bash", {"command": f"exit 3 # {KEY}"}), (KEY, {KEY: KEY}))),
            Say("", (("finish", {"summary": f"see {KEY}"}),)),
            Say("", (("finish", {"summary": f"see {KEY}"}),)),  # the first was held back: nothing was benchmarked
        ]
    )
    printed = run("--json", "--keep-workspace")
    assert not [one for one in SOUGHT if one in printed]
    attempt = json.loads(printed[printed.index("{\n") : printed.rindex("}") + 1])["attempts"][0]
    assert attempt["outcome"]["kind"] == "finished"
    assert attempt["verdict"]["class"] in ("improved", "inconclusive")
    assert [one["id"] for one in attempt["verdict"]["findings"]] == ["secret-in-patch"]
    assert holding(settings.results) == []
    told = json.dumps(server.calls[-1].body["messages"])
    assert "***" in told
    (kept,) = settings.results.rglob("model_patch.diff")
    assert kept.read_bytes().count(b"***") == len(WRITTEN)


def test_an_error_of_the_provider_that_says_the_key_is_kept_without_it(
    run: Callable[..., str], server: Loopback, settings: Settings
) -> None:
    server.play([Fail(400, "invalid_request_error", " ".join(("no {authorization}", *WRITTEN)))])
    printed = run()
    assert "no Bearer ***" in printed
    assert not [one for one in SOUGHT if one in printed]
    assert holding(settings.results, settings.worktrees, settings.cache) == []


@pytest.mark.parametrize("error", ["RuntimeError({key!r})", "attempt.OmniPerfError({key!r}, output={key!r})"])
@pytest.mark.parametrize("flags", [(), ("--debug",)])
def test_a_crash_of_the_harness_is_told_without_the_key(
    run: Callable[..., str], server: Loopback, settings: Settings, error: str, flags: tuple[str, ...]
) -> None:
    end = ("finish", {"summary": "no"})  # held back once, because nothing was benchmarked
    server.play([Say("", (("bash", {"command": "echo >> toy/order.py"}), end)), Say("", (end,))])
    printed = run(*flags, code=CRASH.format(error=error.format(key=" ".join(WRITTEN))))
    (traceback,) = settings.results.rglob("traceback.txt")
    assert "verify_patch" in traceback.read_text()
    assert "***" in traceback.read_text()
    assert not [one for one in SOUGHT if one in printed]
    assert holding(settings.results, settings.worktrees, settings.cache) == []


def test_no_process_that_is_started_has_the_key(
    run: Callable[..., str], server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from outside: the environment and the command line of every process below a run, set-up included."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for pid in [each for run in below(os.getpid()) if b"omniperf.cli" in words(run) for each in below(run)]:
                try:
                    if b"omniperf.cli" not in (said := words(pid)):  # it has become another program
                        seen.add(said + b"\0" + Path(f"/proc/{pid}/environ").read_bytes())
                except OSError:  # it has ended
                    continue
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    monkeypatch.setenv("OTHER_API_KEY", f"{KEY}-other")
    try:
        server.play(
            [Say("", (("bash", {"command": "sleep 0.3; : agent"}), ("benchmark", {}), ("finish", {"summary": ""})))]
        )
        run(setup="sleep 0.3; : set-up")
    finally:
        over.set()
        watcher.join()
    for part in (b": set-up", b": agent", b"worker.py", b"import enter"):
        assert any(part in said for said in seen), part
    ours = [said for said in seen if not said.startswith(b"uname")]  # that is the standard library's own
    assert [said for said in ours if KEY.encode() in said or b"API_KEY" in said] == []


def words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def below(pid: int) -> list[int]:
    """The descendants of a process."""
    found = []
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            children = [int(child) for child in task.read_text().split()]
            found += children + [each for child in children for each in below(child)]
    return found


INSIDE = {"supervisor.py"}  # runs in the sandbox, where there is no environment but its own


def test_every_process_of_the_harness_is_started_with_an_environment_that_was_thought_of() -> None:
    """Where no `env` is named, a program inherits ours, keys and all."""
    root = Path(__file__).parents[1] / "omniperf"
    for file in (file for file in root.rglob("*.py") if file.name not in INSIDE):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen"):
                assert "env" in {word.arg for word in node.keywords}, f"{file}:{node.lineno}"
