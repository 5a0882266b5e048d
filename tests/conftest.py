"""A small real task, made anew for every test that asks: a git repository with a base and a human commit."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from omniperf.measure import pairs
from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.sandbox.bubblewrap import why_not
from omniperf.settings import Settings, load_settings
from omniperf.tasks.load import load_task
from omniperf.tasks.schema import Task

if TYPE_CHECKING:
    from pathlib import Path

SLOW = dedent(
    '''\
    """Keeping the order of first appearance."""


    def distinct(items):
        seen = []
        for item in items:
            if item not in seen:
                seen.append(item)
        return seen
    '''
)
FAST = SLOW.replace(SLOW[SLOW.index("    seen = []") :], "    return list(dict.fromkeys(items))\n")
TEST = dedent(
    """\
    import unittest

    from toy.order import distinct


    class Order(unittest.TestCase):
        def test_keeps_the_first(self):
            self.assertEqual(distinct([3, 1, 3, 2, 1]), [3, 1, 2])
    """
)
WORKLOAD = dedent(
    """\
    import random

    from toy.order import distinct


    def setup(seed):
        rng = random.Random(seed)
        return [rng.randrange(10**9) for _ in range(2000)]


    def run(state):
        return distinct(state)
    """
)
TASK = dedent(
    """\
    schema: omniperf/task/v1
    id: toy
    title: Speed up distinct
    repo: {{path: repo, base: {base}, human: {human}}}
    environment: {{pythonpath: ["."]}}
    targets: ["toy/*.py"]
    workload: workload.py
    tests: ["python -m unittest -q tests.test_order"]
    {extra}
    """
)


def git(folder: Path, *arguments: str) -> str:
    """Run git as a user would, with a name and no configuration of the host.

    Always at one moment: the same tree is the same commit then, and what is proved of a base once is known.
    """
    identity = (
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "commit.gpgsign=false",
    )
    moment = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
    command = ("git", *identity, *arguments)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env={**os.environ, **moment})
    return done.stdout.strip()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# For tests that ask what a measurement on this host said: the rule itself may err once in a hundred times (once in 20
# where a task asks for 95 %), and a busy host decides nothing. No trick has a second chance to win.
MEASURED = pytest.mark.flaky(reruns=1)

_CORES = os.sched_getaffinity(0)


_PLANTED = f"sk-planted-{secrets.token_hex(12)}"


def pytest_configure() -> None:
    """Plant a key, let Ctrl-C be heard, and give each worker of pytest-xdist a core of its own.

    Then none waits for another's lane.
    """
    os.environ["PLANTED_API_KEY"] = _PLANTED
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell leaves it so to what it starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if name := os.environ.get("PYTEST_XDIST_WORKER"):
        os.sched_setaffinity(0, {sorted(_CORES)[int(name.removeprefix("gw")) % len(_CORES)]})


@pytest.fixture(scope="session", autouse=True)
def no_test_writes_the_planted_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look for it, at the end, in everything that all tests of this worker wrote."""
    yield
    data = _PLANTED.encode()
    forms = (_PLANTED, _PLANTED[::-1], data.hex(), *(base64.b64encode(data[at:])[4:-4].decode() for at in range(3)))
    # Not what claims to be larger: grep takes a file of nothing but a hole for one line, and reads it into memory.
    search = ["find", ".", "-type", "f", "-size", "-100M", "-exec"]
    search += ["grep", "-laF", *(word for form in forms for word in ("-e", form)), "{}", "+"]
    done = subprocess.run(search, cwd=tmp_path_factory.getbasetemp(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", ""), "the key of the environment was written there"


@pytest.fixture
def all_cores() -> Iterator[None]:
    """All cores of the host, for what needs more than one."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES)
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache a worker: seals and environments are content-addressed, so sharing is what a user has too."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches of toys are hundreds of times as fast as base, whose batches would be of seconds for the clock's sake."""
    monkeypatch.setattr(pairs, "_BASE_SECONDS", 0.3)


@pytest.fixture(autouse=True)
def no_test_knows_the_noise_of_another(shared_cache: Path) -> Iterator[None]:
    yield
    shutil.rmtree(shared_cache / "calibration", ignore_errors=True)


@pytest.fixture
def settings(tmp_path: Path, shared_cache: Path) -> Settings:
    folders = {"results": tmp_path / "results", "worktrees": tmp_path / "worktrees", "cache": shared_cache}
    return load_settings({**folders, "tasks": tmp_path / "tasks"})


@pytest.fixture
def bubblewrap() -> None:
    if reason := why_not():
        pytest.skip(f"bubblewrap cannot run here: {reason}")


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rule reads the patch: what is prevented must be so whether or not a rule knows the trick."""
    monkeypatch.setattr("omniperf.verify.verdict.inspect_patch", lambda *_: ())


MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(tmp_path: Path, settings: Settings) -> MakeTask:
    """Write a task folder with its repository and load it; `extra` is YAML added to the task file."""

    def make(extra: str = "", workload: str = WORKLOAD, files: dict[str, str] | None = None) -> Task:
        folder = tmp_path / "tasks" / "toy"
        repo = folder / "repo"
        repo.mkdir(parents=True)
        git(repo, "init", "-q")
        write(repo, {"toy/__init__.py": "", "toy/order.py": SLOW, "tests/__init__.py": "", "tests/test_order.py": TEST})
        write(repo, {"README.md": "toy\n", **(files or {})})
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", "base")
        base = git(repo, "rev-parse", "HEAD")
        write(repo, {"toy/order.py": FAST})
        git(repo, "commit", "-q", "-a", "-m", "use a dict: the secret of the human commit")
        human = git(repo, "rev-parse", "HEAD")
        git(repo, "tag", "v1")
        write(folder, {"workload.py": workload, "task.yaml": TASK.format(base=base, human=human, extra=dedent(extra))})
        return load_task(str(folder), settings)

    return make


@pytest.fixture
def bench(make_task: MakeTask, settings: Settings, bubblewrap: None) -> Bench:
    return open_bench(make_task(), settings, ignore)
