"""Every bad input: one sentence with the remedy, the right exit code, no traceback, and nothing left behind."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from omniperf.measure.nvml import gpus
from tests.agents.loopback import Fail, Loopback
from tests.conftest import FAST, SLOW, WORKLOAD

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from omniperf.tasks.schema import Task

    Omniperf = Callable[..., subprocess.CompletedProcess[str]]

KEY = "sk-secret-0123456789"
MODEL = ("--agent", "anthropic", "--model", "claude-opus-5-5")


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Change a file of the task's folder."""

    def spoil(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return spoil


def commit(role: str, sha: str) -> Callable[[Path], None]:
    """Name another commit in the task file."""

    def spoil(folder: Path) -> None:
        file = folder / "task.yaml"
        before, _, after = file.read_text().partition(f"{role}: ")
        file.write_text(f"{before}{role}: {sha}{after[40:]}")

    return spoil


def gone(path: str) -> Callable[[Path], None]:
    """Remove a file or a folder of the task's folder."""

    def spoil(folder: Path) -> None:
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return spoil


def returning(expression: str) -> Callable[[Path], None]:
    """Have `run` return that instead, or raise it."""
    return edited("workload.py", "    return distinct(state)", f"    distinct(state)\n    {expression}")


@dataclass(frozen=True)
class Bad:
    """What is wrong, and what is said: `arguments` follow `run TASK`; `said` ends the last line of standard error."""

    name: str
    said: tuple[str, str]
    code: int = 2
    spoil: Callable[[Path], None] = lambda folder: None
    arguments: tuple[str, ...] = ("--agent", "null")
    extra: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    needs_sandbox: bool = False


BASE = {"needs_sandbox": True}
ROWS = [
    Bad("no task file", ("There is no task file", "Name a task.yaml, its folder, or a task's name."), spoil=gone("")),
    Bad("no workload", ("there is no file workload.py beside it.", "Write workload.py."), spoil=gone("workload.py")),
    Bad("bad yaml", (":10: not valid YAML:", "check indentation and quotes."), extra="x: [1"),
    Bad("unknown key", (":10: speed is not a known key.", "Remove it; known here:"), extra="speed: 3"),
    Bad("two of a key", (":10: 'id' is given twice, first on line 2.", "Keep one of the two."), extra="id: again"),
    Bad("wrong type", (":10: limits.steps: should be a valid integer", "Correct the value."),
        extra="limits: {steps: many}"),
    Bad("bad workload", ("workload.py:6: expected ':'", "Correct the workload."),
        spoil=edited("workload.py", "def setup(seed):", "def setup(seed)")),
    Bad("no such base", ("is not a commit of repo.", "Correct `repo.base`."), spoil=commit("base", "1" * 40)),
    Bad("no such human", ("is not a commit of repo.", "Correct `repo.human`."), spoil=commit("human", "2" * 40)),
    Bad("missing repo", ("is not a folder.", "Correct `repo.path`."), spoil=gone("repo")),
    Bad("repo without git", ("is a plain folder, so it has no commit", "point `repo.path` at a git repository."),
        spoil=gone("repo/.git")),
    Bad("no such agent", ("There is no agent 'nobody'.", "Choose one of:"), arguments=("--agent", "nobody")),
    Bad("no key", ("needs a key in ANTHROPIC_API_KEY.", "Set that variable."), arguments=MODEL,
        variables={"ANTHROPIC_API_KEY": ""}),
    Bad("no model", ("needs a model.", "Name one with --model."), arguments=("--agent", "openai"),
        variables={"OPENAI_API_KEY": KEY}),
    Bad("refused key", ("anthropic refused the key", "Check the key in ANTHROPIC_API_KEY."), 1, arguments=MODEL,
        variables={"ANTHROPIC_API_KEY": KEY}, needs_sandbox=True),
    Bad("no patch file", ("is not a file.", "Give an existing diff file."),
        arguments=("--agent", "patch", "--patch", "nothing.diff")),
    Bad("unknown option of an agent", ("takes no --model.", "See `omniperf agents`."),
        arguments=("--agent", "null", "--model", "m")),
    Bad("unwritable results", ("Nothing can be written to", "Name another folder with --results."),
        arguments=("--agent", "null", "--results", "/proc/results")),
    Bad("no target", ("no file of base matches its targets", "relative to the repository's top."),
        spoil=edited("task.yaml", "toy/*.py", "nothing/*.py"), **BASE),
    Bad("a target that is not reached", ("executes no function of its targets", "or correct `targets`."),
        spoil=edited("task.yaml", "toy/*.py", "tests/*.py"), **BASE),
    Bad("workload that cannot be imported", ("No module named 'nowhere'", "Correct the workload or the environment."),
        spoil=edited("workload.py", "import random", "import random, nowhere"), **BASE),
    Bad("workload that raises", ("run raised ValueError: boom", "Correct the workload or the environment."),
        spoil=returning('raise ValueError("boom")'), **BASE),
    Bad("workload that returns NaN", ("gives one output for every seed", "return something that depends on them."),
        spoil=returning('return float("nan")'), **BASE),
    Bad("workload that never ends", ("run did not finish in time (1 s).", "Correct the workload or the environment."),
        spoil=returning("while True: pass"), extra="limits: {command_seconds: 1}", **BASE),
    Bad("workload that returns an object", ("a builtins.object, which is not plain data.", "add `export(output)`."),
        spoil=returning("return object()"), **BASE),
    Bad("workload that exits", ("exited with status 3", "Correct the workload or the environment."),
        spoil=returning("import os; os._exit(3)"), **BASE),
    Bad("build that fails", ("its build ended with exit code 3 on base.", "Correct `environment.build`."),
        spoil=edited("task.yaml", "environment: {", 'environment: {build: ["echo one; echo two; exit 3"], '), **BASE),
    Bad("set-up that fails", ("the set-up command `false` ended with exit code 1.", "Correct `environment.setup`"),
        spoil=edited("task.yaml", "environment: {", 'environment: {setup: ["false"], '), **BASE),
    Bad("tests that fail on base", ("its tests fail on base (a command ended with exit code 1).", "Correct `tests`"),
        spoil=edited("task.yaml", "tests.test_order", "tests.nothing"), **BASE),
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    loopback.probe = Fail(401, "authentication_error", "invalid key")
    yield loopback
    loopback.close()


def said_once(done: subprocess.CompletedProcess[str], said: tuple[str, str], code: int) -> None:
    """One line that starts with `error: `, below those of progress, holds what is wrong and then the remedy."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    *progress, last = done.stderr.splitlines()
    assert last.startswith("error: "), done.stderr
    wrong, remedy = said
    assert remedy in last.partition(wrong)[2], last
    # Above it: what is going on, and what a program of the task's printed.
    assert all(re.match(r"\d\d:\d\d:\d\d |  \| ", line) for line in progress), done.stderr


@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad.name)
def test_bad_input_of_a_run(
    bad: Bad, omniperf: Omniperf, make_task: Callable[..., Task], server: Loopback, folder: Path,
    request: pytest.FixtureRequest, shared_cache: Path,
) -> None:  # fmt: skip
    if bad.needs_sandbox:
        request.getfixturevalue("bubblewrap")
    task = make_task().folder
    with (task / "task.yaml").open("a") as file:
        file.write(f"{bad.extra}\n")
    bad.spoil(task)
    more = ("--base-url", server.url) if bad.name == "refused key" else ()
    done = omniperf("run", str(task), *bad.arguments, *more, OMNIPERF_CACHE=str(shared_cache), **bad.variables)
    said_once(done, bad.said, bad.code)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(bool(gpus()), reason="this host has a GPU")
def test_a_task_on_a_gpu_without_one(omniperf: Omniperf, make_task: Callable[..., Task], folder: Path) -> None:
    done = omniperf("run", str(make_task("resources: {gpus: 1}").folder), "--agent", "null")
    said_once(done, ("needs 1 NVIDIA GPU(s); this host has 0 of 0.", "choose a host or a task that fits."), 1)
    assert list(folder.iterdir()) == []


PATCHES = {
    "does not apply": ("--- a/toy/order.py\n+++ b/toy/order.py\n@@ -1 +1 @@\n-nothing\n+else\n", "invalid"),
    "is no diff": ("hello\n", "invalid"),
    "is empty": ("", "no_patch"),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_bad_patch_has_a_verdict_and_the_gate_is_not_met(
    name: str, omniperf: Omniperf, make_task: Callable[..., Task], folder: Path, bubblewrap: None, shared_cache: Path
) -> None:
    text, verdict = PATCHES[name]
    patch = folder / "p.diff"
    patch.write_text(text)
    flags = ("--patch", str(patch), "--require", "improved")
    done = omniperf("verify", str(make_task().folder), *flags, OMNIPERF_CACHE=str(shared_cache))
    assert done.returncode == 3
    assert done.stdout.startswith(verdict)
    assert done.stderr.endswith("gate not met: improved was required\n")
    assert list(folder.iterdir()) == [patch]


def test_changes_that_are_not_committed_are_named_and_not_part_of_base(
    omniperf: Omniperf, make_task: Callable[..., Task], folder: Path, bubblewrap: None, shared_cache: Path
) -> None:
    task = make_task().folder
    file = task / "task.yaml"
    before, _, after = file.read_text().partition("base: ")
    file.write_text(before + after[42:])  # without base: whatever is checked out
    (task / "repo/toy/order.py").write_text("a syntax error")
    done = omniperf("tasks", "validate", str(task), OMNIPERF_CACHE=str(shared_cache))
    assert done.returncode == 0, done.stderr
    assert "repo has changes that are not committed; base is its last commit, without them" in done.stderr
    assert (task / "repo/toy/order.py").read_text() == "a syntax error"


def test_the_table_starts_from_a_task_that_is_good(
    omniperf: Omniperf, make_task: Callable[..., Task], bubblewrap: None, shared_cache: Path
) -> None:
    assert "return distinct(state)" in WORKLOAD
    assert SLOW != FAST
    done = omniperf("tasks", "validate", str(make_task().folder), OMNIPERF_CACHE=str(shared_cache))
    assert done.returncode == 0, done.stderr
