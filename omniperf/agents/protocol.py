"""What an agent is, and what it is given: the contract between the harness and everything that writes patches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from omniperf.results.events import ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from omniperf.agents.resume import ResumePoint
    from omniperf.gateway.budget import Budget
    from omniperf.gateway.process import Entrance
    from omniperf.measure.gpu_tools import Counters
    from omniperf.results.events import Emit
    from omniperf.results.journal import Journal
    from omniperf.sandbox.standing import StandingSandbox
    from omniperf.tasks.schema import Task
    from omniperf.workspace.worktree import Workspace


class ToolError(Exception):
    """A tool could not do what it was asked; the text says why and is meant for the agent."""


@dataclass(frozen=True)
class CommandResult:
    """What a command left: `exit_code` is negative for a signal; `output` is stdout and stderr, interleaved."""

    exit_code: int
    output: str
    seconds: float
    stopped_by: Literal["", "time", "output", "memory", "disk", "cancelled"] = ""
    dropped_bytes: int = 0


@dataclass(frozen=True)
class Screening:
    """What the `benchmark` tool saw: a hint for the agent, never a verdict.

    `speedup` is the reference's time / the current tree's with its 90 % interval `low` to `high`; 0 where nothing could
    be measured. `memory_checked`: the outputs were base's too while all memory that arrays were given held NaN and the
    largest integers, so none of it is read before it is written.
    """

    decision: Literal["faster", "slower", "no_change", "undecided", "failed"]
    speedup: float
    low: float
    high: float
    pairs: int
    outputs_equal: bool
    reason: str = ""
    memory_checked: bool = False


@dataclass(frozen=True)
class TestReport:
    """What the task's tests said; `output` is the end of their output."""

    __test__ = False  # not a pytest class

    passed: bool
    output: str
    seconds: float


@dataclass(frozen=True)
class Hotspot:
    """One function of the tree under the profiler, for one run of the workload. `file` is relative to the tree."""

    file: str
    line: int
    function: str
    calls: int
    own_seconds: float
    total_seconds: float


@dataclass(frozen=True)
class Kernel:
    """One kernel or copy that ran on the GPU, for one run of the workload."""

    name: str
    launches: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Where the time of one run goes, hottest first: functions of the tree only, kernels whoever launched them.

    `counters` are ncu's of the costliest kernels, `no_counters` why it has none, `memcheck` what compute-sanitizer says
    of one run; empty where the tool is not installed or was not asked.
    """

    functions: tuple[Hotspot, ...]
    kernels: tuple[Kernel, ...] = ()
    counters: tuple[Counters, ...] = ()
    no_counters: str = ""
    memcheck: str = ""


class Tools(Protocol):
    """The tools of every agent. Paths are relative to the workspace; each call is journalled."""

    def bash(self, command: str, timeout: float | None = None) -> CommandResult:
        """Run a shell command in the sandbox, in the workspace's root."""
        ...

    def view(self, path: str) -> str:
        """Return a file's text (UTF-8, bytes that are not survive as surrogates)."""
        ...

    def create(self, path: str, text: str) -> None:
        """Write a whole file, making its folders."""
        ...

    def str_replace(self, path: str, old: str, new: str) -> None:
        """Replace the one occurrence of `old`; a ToolError if there is none or more than one."""
        ...

    def insert(self, path: str, line: int, text: str) -> None:
        """Insert text after that line (0: at the top)."""
        ...

    def undo(self, path: str) -> None:
        """Take back the last edit of that file that a tool made; a ToolError if there is none left."""
        ...

    def benchmark(self, against: Literal["base", "commit"] = "base") -> Screening:
        """Screen the current tree against base, or against the last commit made through `commit`."""
        ...

    def test(self) -> TestReport:
        """Run the task's tests on the current tree."""
        ...

    def profile(self, *, deep: bool = False) -> Profile:
        """Profile one run of the workload on the current tree: its functions, and its kernels on a GPU.

        With `deep` and a GPU, NVIDIA's own tools look at a run each as well, where they are installed (three minutes).
        """
        ...

    def commit(self, message: str) -> str:
        """Commit the whole tree in the workspace's own git; the new sha, or "" when nothing changed."""
        ...

    def finish(self, summary: str) -> None:
        """Say that the work is done. What the summary claims decides nothing."""
        ...


@dataclass
class Session:
    """One attempt, as its agent sees it. `reference` is the human patch, for agents with `needs_reference` alone.

    An agent with a model adds to `models` each one that says it has answered. `resume` says where an earlier process
    had come to, for agents that can go on from there; the workspace is as it was then. `sandbox` is the attempt's, for
    agents that run in it whole; they call `note_edit` where the tree may have been edited for the first time. `gateway`
    is the run's, in front of the models.
    """

    task: Task
    prompt: str
    workspace: Workspace
    tools: Tools
    budget: Budget
    journal: Journal
    options: Mapping[str, str] = field(default_factory=dict)
    reference: bytes | None = None
    emit: Emit = ignore
    models: list[str] = field(default_factory=list)
    resume: ResumePoint | None = None
    sandbox: StandingSandbox | None = None
    note_edit: Callable[[], None] = lambda: None
    gateway: Entrance | None = None

    @property
    def folder(self) -> Path:
        """The attempt's folder on the host, for records of the agent's own."""
        return self.journal.path.parent


@dataclass(frozen=True)
class Outcome:
    """How an agent ended: on its own, out of budget, or by an error of its own making."""

    kind: Literal["finished", "budget", "agent_error"]
    detail: str = ""
    exit_code: int | None = None
    signal: str | None = None
    evidence: str = ""


class Agent(Protocol):
    """Anything that turns a prompt and a workspace into a patch. Found through the entry points `omniperf.agents`.

    The class is called without arguments. `version` goes into the result; `summary` is one line for `omniperf agents`.

    It may also have `options`, the names of the options it takes (none, where it has no such attribute);
    `needs_reference`; `resumes`, where it can go on from `Session.resume`; `forgets`, where nothing of an attempt stays
    in memory that a later one in the same process could come upon; `needs_walls`, where it works in no sandbox without
    namespaces; `equipped(spec, task)`, a context manager that gives the attempt's sandbox what the agent needs
    in it, and whose tool calls are then the steps; `check(options)`, called first of all, which raises UsageError;
    `stands_for(options)`, the agent that does the work in its place, with all of these; and
    `ready(options, emit, gateway)`, called once host, task, prompt and base have passed, which may spend a little and
    raises InfraError where the agent cannot work.
    """

    version: str
    summary: str

    def solve(self, session: Session) -> Outcome:
        """Work until done, out of budget, or stuck."""
        ...
