"""Real clients, a scripted model server on loopback, the real gateway, the real sandbox."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.results.schema import Result
from omniperf.sweep.run import run_task
from tests.agents.loopback import Loopback
from tests.clients.install import program

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

KEY = "sk-real-0123456789abcdef"
VERSIONS = {
    "claude-code": "claude-code-2.1.329",
    "codex": "codex-0.169.0",
    "mini-swe-agent": "mini-swe-agent-2.4.6",
    "openhands": "openhands-1.16.0",
    "trae": "trae-0.1.0",
}
Attempt = Callable[..., tuple[Path, Result]]


@pytest.fixture(scope="session")
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a client on PATH, or skip."""

    def use(name: str) -> None:
        if (found := program(name)) is None:
            pytest.skip(f"{name} is not installed: python -m tests.clients.install {name}")
        monkeypatch.setenv("PATH", f"{found.parent}:{os.environ['PATH']}")

    return use


@pytest.fixture
def seen_outside() -> Iterator[set[bytes]]:
    """Environments and command lines of all processes below this one, while the test runs."""
    found: set[bytes] = set()
    over = Event()

    def look() -> None:
        while not over.wait(0.5):
            parents = {}
            for folder in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            for pid in parents:
                above = pid
                while above not in (0, os.getpid()):
                    above = parents.get(above, 0)
                if above and pid != os.getpid():
                    with suppress(OSError):
                        found.update(
                            (Path(f"/proc/{pid}/environ").read_bytes(), Path(f"/proc/{pid}/cmdline").read_bytes())
                        )

    thread = Thread(target=look, daemon=True)
    thread.start()
    yield found
    over.set()
    thread.join()


@pytest.fixture
def attempt(
    settings: Settings, server: Loopback, client: Callable[[str], None], bubblewrap: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Attempt:  # fmt: skip
    """Run one attempt of an agent against the server; its folder and result."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def run(task: Task, agent: str, version: str = "", url: str = "", **options: str) -> tuple[Path, Result]:
        client(version or VERSIONS[agent])
        options = {"model": "gpt-5.5" if agent == "codex" else "claude-opus-5-5", **options}
        api = options.get("api", "responses" if agent == "codex" else "anthropic")
        base = url or server.url
        options["base_url"] = base if api == "anthropic" else f"{base}/v1"
        folder, results = run_task(task, AttemptSpec("", agent, 0, options=options), 1, settings, ignore)
        return folder / task.id / f"{agent}.1", results[0]

    return run
