"""The loop of `pattern` against tools that answer by a script: what it keeps, undoes, and in which order it tries."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from omniperf.agents.arms.pattern import PatternAgent
from omniperf.agents.protocol import CommandResult, Hotspot, Outcome, Profile, Screening, Session, TestReport, ToolError
from omniperf.gateway.budget import Budget
from omniperf.tasks.schema import Limits, Task
from omniperf.workspace.worktree import Workspace

if TYPE_CHECKING:
    from pathlib import Path

HOT = """\
import re


def unique(items):
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen


def words(lines):
    return [re.findall("[a-z]+", line) for line in lines if line not in ["", "-", "--"]]
"""
UNIQUE, REGEX, SET, APPEND = "seen_set = set()", "_WORDS_RE", '{"", "-", "--"}', "seen_append = seen.append"


@dataclass
class FakeTools:
    """Tools over a folder. A marker's factor in `speedups` counts while the marker is somewhere in the tree."""

    tree: Path
    budget: Budget
    own: dict[tuple[str, str], float]
    speedups: dict[str, float] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    width: float = 0.02
    memory_checked: bool = False
    committed: str = ""
    calls: list[str] = field(default_factory=list)
    screened: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    finished: str | None = None
    clock_stops_at_benchmark: int = 0

    def _call(self, name: str) -> None:
        self.budget.step()
        self.calls.append(name)

    def _text(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.tree.rglob("*.py")))

    def bash(self, command: str, timeout: float | None = None) -> CommandResult:
        raise NotImplementedError

    def view(self, path: str) -> str:
        self._call("view")
        if not (self.tree / path).is_file():
            raise ToolError(f"{path} does not exist")
        return (self.tree / path).read_bytes().decode("utf-8", "surrogateescape")

    def create(self, path: str, text: str) -> None:
        self._call("create")
        (self.tree / path).write_bytes(text.encode("utf-8", "surrogateescape"))

    def str_replace(self, path: str, old: str, new: str) -> None:
        raise NotImplementedError

    def insert(self, path: str, line: int, text: str) -> None:
        raise NotImplementedError

    def benchmark(self, against: Literal["base", "commit"] = "base") -> Screening:
        self._call("benchmark")
        if self.calls.count("benchmark") == self.clock_stops_at_benchmark:
            self.budget.started -= 60 * self.budget.limits.minutes
        text, speedup = self._text(), 1.0
        self.screened.append(text)
        for marker, factor in self.speedups.items():
            speedup *= factor if marker in text else 1.0
            speedup /= factor if against == "commit" and marker in self.committed else 1.0
        low, high = speedup * (1 - self.width), speedup * (1 + self.width)
        decision = "faster" if low > 1 else "slower" if high < 1 else "no_change"
        equal = not any(marker in text for marker in self.wrong)
        return Screening(cast("Any", decision), speedup, low, high, 6, equal, "", self.memory_checked)

    def test(self) -> TestReport:
        self._call("test")
        return TestReport(not any(marker in self._text() for marker in self.failing), "", 0.1)

    def profile(self) -> Profile:
        self._call("profile")
        spots = []
        for (path, function), own in self.own.items():
            lines = (self.tree / path).read_bytes().decode("utf-8", "replace").splitlines()
            line = next((n for n, text in enumerate(lines, 1) if f"def {function}(" in text), 1)
            spots.append(Hotspot(path, line, function, 1, own, own))
        return Profile(tuple(sorted(spots, key=lambda spot: -spot.own_seconds)))

    def commit(self, message: str) -> str:
        self._call("commit")
        self.commits.append(message)
        self.committed = self._text()
        return "1" * 40

    def finish(self, summary: str) -> None:
        self._call("finish")
        self.finished = summary


def session(
    root: Path,
    files: dict[str, str | bytes],
    own: dict[tuple[str, str], float],
    targets: tuple[str, ...] = ("src/**/*.py",),
    limits: dict[str, float] | None = None,
    **script: Any,
) -> tuple[Session, FakeTools]:
    for name, text in files.items():
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    budget = Budget(Limits.model_validate({"steps": 100, **(limits or {})}), time.monotonic())
    tools = FakeTools(root / "tree", budget, own, **script)
    task = Task.model_validate(
        {
            "schema": "omniperf/task/v1", "id": "t", "title": "t", "targets": targets,
            "repo": {"path": "repo"}, "workload": "workload.py",
        }
    )  # fmt: skip
    workspace = Workspace(root, seal=cast("Any", None))
    return Session(task, "", workspace, tools, budget, journal=cast("Any", None)), tools


BOTH = {("src/hot.py", "unique"): 0.7, ("src/hot.py", "words"): 0.3}


def test_keeps_what_is_faster_and_undoes_the_rest(tmp_path: Path) -> None:
    given, tools = session(tmp_path, {"src/hot.py": HOT}, BOTH, speedups={UNIQUE: 2.0, REGEX: 1.3, SET: 0.9})
    outcome = PatternAgent().solve(given)
    text = (tmp_path / "tree/src/hot.py").read_text()
    assert outcome.kind == "finished"
    assert UNIQUE in text and REGEX in text
    assert SET not in text and APPEND not in text
    assert [message.split(":")[0] for message in tools.commits] == [
        "growing_list_membership in unique", "compile_regex in words",
    ]  # fmt: skip
    assert tools.finished is not None and "2 kept, screened about 2.60x" in tools.finished


def test_hot_functions_come_first_and_once_something_is_kept_the_profile_is_taken_anew(tmp_path: Path) -> None:
    own = {("src/hot.py", "unique"): 0.2, ("src/hot.py", "words"): 0.8}
    given, tools = session(tmp_path, {"src/hot.py": HOT}, own, speedups={SET: 1.5})
    PatternAgent().solve(given)
    markers = [[name for name in (REGEX, SET, UNIQUE, APPEND) if name in text] for text in tools.screened]
    assert markers == [[UNIQUE], [REGEX], [SET], [SET, APPEND]]  # a quadratic loop before constants, hot or not
    assert tools.calls.count("profile") == 2


def test_constants_are_not_saved_where_a_function_has_too_little_time_of_its_own(tmp_path: Path) -> None:
    own = {("src/hot.py", "unique"): 0.95, ("src/hot.py", "words"): 0.05}
    given, tools = session(tmp_path, {"src/hot.py": HOT}, own)
    PatternAgent().solve(given)
    assert [text for text in tools.screened if REGEX in text or SET in text] == []
    assert len(tools.screened) == 2


LAUNCH = """\
import torch
import triton


@triton.jit
def sums(x, ends, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    for i in range(SIZE):
        tl.store(ends + i, tl.load(x + i))


def run(x):
    ends = torch.zeros(x.numel() + 1)
    sums[(1,)](x, ends, SIZE=4, num_warps=4)
    return ends
"""


@pytest.mark.parametrize(("second", "kept"), [(1.02, True), (0.98, False)])
def test_a_gain_that_differs_from_input_to_input_is_kept_if_it_is_seen_twice(
    tmp_path: Path, second: float, kept: bool
) -> None:
    given, tools = session(tmp_path, {"src/hot.py": HOT}, {("src/hot.py", "unique"): 1.0})
    lows = iter([1.05, second])

    def uneven(against: str = "base") -> Screening:
        tools.calls.append("benchmark")
        if UNIQUE in tools._text() and UNIQUE not in tools.committed:
            return Screening("undecided", 1.3, next(lows), 1.7, 6, outputs_equal=True)
        return Screening("no_change", 1.0, 0.99, 1.01, 6, outputs_equal=True)

    tools.benchmark = uneven  # type: ignore[method-assign, assignment]
    PatternAgent().solve(given)
    assert (UNIQUE in (tmp_path / "tree/src/hot.py").read_text()) is kept
    assert next(lows, None) is None


@pytest.mark.parametrize("checked", [True, False])
def test_what_is_speculative_is_kept_only_if_memory_was_poisoned(tmp_path: Path, checked: bool) -> None:
    own = {("src/a.py", "run"): 1.0}
    speedups = {"torch.empty(": 1.5}
    given, _ = session(tmp_path, {"src/a.py": LAUNCH}, own, speedups=speedups, memory_checked=checked)
    PatternAgent().solve(given)
    assert ("torch.empty(" in (tmp_path / "tree/src/a.py").read_text()) is checked


def test_of_two_speculations_the_one_that_stands_is_kept(tmp_path: Path) -> None:
    own = {("src/a.py", "run"): 1.0}
    script: dict[str, Any] = {"speedups": {"torch.empty(": 1.5}, "memory_checked": True, "wrong": ("+ 1)\n    sums",)}
    given, tools = session(tmp_path, {"src/a.py": LAUNCH}, own, **script)
    PatternAgent().solve(given)
    assert "ends = torch.empty(x.numel() + 1)\n    ends[0] = 0\n" in (tmp_path / "tree/src/a.py").read_text()
    assert len(tools.commits) == 1


def test_numbers_are_tried_both_ways_and_climb_while_they_win(tmp_path: Path) -> None:
    own = {("src/a.py", "run"): 1.0}
    speedups = {"num_warps=8": 1.2, "num_warps=16": 1.5, "num_warps=32": 1.4}
    given, tools = session(tmp_path, {"src/a.py": LAUNCH}, own, speedups=speedups)
    PatternAgent().solve(given)
    assert "num_warps=16" in (tmp_path / "tree/src/a.py").read_text()
    assert [message.rpartition(": ")[2] for message in tools.commits] == ["num_warps 8 for 4", "num_warps 16 for 8"]


def test_rules_for_python_leave_the_kernels_that_a_hot_function_launches_alone(tmp_path: Path) -> None:
    own = {("src/a.py", "run"): 1.0}
    tuned = "@triton.autotune([triton.Config({'BLOCK': 64})], key=[])\n@triton.jit\n"
    given, tools = session(tmp_path, {"src/a.py": LAUNCH.replace("@triton.jit\n", tuned)}, own)
    PatternAgent().solve(given)
    assert not any("tl_load" in text for text in tools.screened)
    for size in (128, 32):
        assert any(f"'BLOCK': {size}" in text for text in tools.screened)


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    given, tools = session(tmp_path, {"src/hot.py": HOT}, BOTH, speedups={REGEX: 1.5})
    PatternAgent().solve(given)
    assert len(set(tools.screened)) == len(tools.screened) == 4


def test_the_tests_are_run_only_for_what_is_faster(tmp_path: Path) -> None:
    given, tools = session(tmp_path, {"src/hot.py": HOT}, BOTH, speedups={UNIQUE: 1.5})
    PatternAgent().solve(given)
    assert tools.calls.count("test") == 1


@pytest.mark.parametrize("script", [{"wrong": (UNIQUE, REGEX)}, {"failing": (UNIQUE, REGEX)}])
def test_faster_and_wrong_is_undone(tmp_path: Path, script: dict[str, tuple[str, ...]]) -> None:
    given, tools = session(tmp_path, {"src/hot.py": HOT}, BOTH, speedups={UNIQUE: 2.0, REGEX: 1.3}, **script)
    outcome = PatternAgent().solve(given)
    assert outcome == Outcome("finished", "4 rewrites tried, none kept.")
    assert (tmp_path / "tree/src/hot.py").read_text() == HOT
    assert not tools.commits


def test_a_second_gain_must_exceed_the_error_of_both_screenings(tmp_path: Path) -> None:
    given, _ = session(tmp_path, {"src/hot.py": HOT}, BOTH, speedups={UNIQUE: 2.0, REGEX: 1.02, SET: 1.2})
    PatternAgent().solve(given)
    text = (tmp_path / "tree/src/hot.py").read_text()
    assert UNIQUE in text and SET in text and REGEX not in text


def test_where_all_places_together_are_wrong_each_is_tried_alone(tmp_path: Path) -> None:
    text = "def f(x, y):\n    return x in [1, 2, 3], y in [4, 5, 6]\n"
    speedups = {"{1, 2, 3}": 1.5, "{4, 5, 6}": 1.5}
    own = {("src/a.py", "f"): 1.0}
    given, tools = session(tmp_path, {"src/a.py": text}, own, speedups=speedups, wrong=("{1, 2, 3}",))
    PatternAgent().solve(given)
    assert (tmp_path / "tree/src/a.py").read_text() == text.replace("[4, 5, 6]", "{4, 5, 6}")
    assert len(tools.commits) == 1


def test_only_python_files_of_the_targets_are_read_and_the_unreadable_are_skipped(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "src/hot.py": HOT,
        "lib/hot.py": HOT,
        "src/broken.py": "def unique(:\n",
        "src/latin.py": b"def unique(): '\xe9'\n",
    }
    own = {(name, "unique"): 1.0 for name in files}
    (tmp_path / "tree/src").mkdir(parents=True)
    (tmp_path / "tree/src/link.py").symlink_to("../lib/hot.py")
    own["src/link.py", "unique"] = 2.0
    given, _ = session(tmp_path, files, own, speedups={UNIQUE: 2.0})
    assert PatternAgent().solve(given).kind == "finished"
    assert UNIQUE in (tmp_path / "tree/src/hot.py").read_text()
    for name in ("lib/hot.py", "src/broken.py", "src/latin.py"):
        content = files[name]
        assert (tmp_path / "tree" / name).read_bytes() == (content if isinstance(content, bytes) else content.encode())


def test_a_cool_function_is_not_worth_a_benchmark(tmp_path: Path) -> None:
    own = {("src/hot.py", "unique"): 0.001, ("src/hot.py", "words"): 1.0}
    given, tools = session(tmp_path, {"src/hot.py": HOT}, own)
    PatternAgent().solve(given)
    assert len(tools.screened) == 2


def test_it_stops_before_a_trial_that_the_steps_do_not_suffice_for(tmp_path: Path) -> None:
    given, tools = session(tmp_path, {"src/hot.py": HOT}, BOTH, limits={"steps": 10}, speedups={UNIQUE: 2.0})
    outcome = PatternAgent().solve(given)
    assert outcome.kind == "budget" and "2 of 10 steps are left" in outcome.detail
    assert tools.calls == ["profile", "view", "create", "benchmark", "test", "commit", "profile", "view"]
    assert UNIQUE in (tmp_path / "tree/src/hot.py").read_text()


@pytest.mark.parametrize(("trial", "kept"), [(1, False), (2, True)])
def test_when_the_time_is_up_the_tree_is_left_as_last_kept(tmp_path: Path, trial: int, kept: bool) -> None:
    given, tools = session(
        tmp_path, {"src/hot.py": HOT}, BOTH, speedups={UNIQUE: 2.0, REGEX: 2.0}, clock_stops_at_benchmark=trial
    )
    outcome = PatternAgent().solve(given)
    text = (tmp_path / "tree/src/hot.py").read_text()
    assert outcome.kind == "budget" and "minutes" in outcome.detail
    assert (UNIQUE in text) is kept and APPEND not in text and REGEX not in text
    assert len(tools.commits) == kept


def test_a_workload_that_cannot_be_profiled_is_said(tmp_path: Path) -> None:
    given, tools = session(tmp_path, {"src/hot.py": HOT}, BOTH)

    def fail() -> tuple[Hotspot, ...]:
        raise ToolError("the workload raised")

    tools.profile = fail  # type: ignore[method-assign]
    assert PatternAgent().solve(given) == Outcome("agent_error", "the workload raised")
