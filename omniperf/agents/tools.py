"""The tools of a session: how an agent, with a model or without, looks, edits, measures and commits."""

from __future__ import annotations

import hashlib
import math
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from omniperf.agents.files import Files
from omniperf.agents.protocol import CommandResult, Hotspot, Kernel, Profile, Screening, TestReport, ToolError
from omniperf.agents.ratchet import Ratchet
from omniperf.agents.recorded import recorded_profile
from omniperf.errors import InfraError, OmniPerfError
from omniperf.gateway.budget import BudgetExhaustedError
from omniperf.measure.arms import make_arm, on_lane
from omniperf.measure.bench import in_tree
from omniperf.measure.bytecode import add_bytecode
from omniperf.measure.clock import Timing, Worker, WorkloadError
from omniperf.measure.gpu_tools import kernel_counters, memory_check
from omniperf.measure.lanes import LaneClock, claimed, find_lanes
from omniperf.measure.pairs import BaseError, CandidateError, Plan, measure_pairs
from omniperf.measure.process import observe_process
from omniperf.measure.statistics import hl_interval, hodges_lehmann
from omniperf.results.events import Event
from omniperf.results.redact import keyless
from omniperf.sandbox.standing import StandingSandbox
from omniperf.sandbox.supervisor import LEAST_FREE
from omniperf.verify import scope
from omniperf.verify.behaviour import check_behaviour
from omniperf.verify.task_tests import run_tests
from omniperf.workspace.patch import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from omniperf.agents.recorded import Recorded
    from omniperf.gateway.budget import Budget
    from omniperf.measure.bench import Bench
    from omniperf.measure.clock import Arm
    from omniperf.measure.gpu_tools import Counters
    from omniperf.results.events import Emit
    from omniperf.results.journal import Journal
    from omniperf.sandbox.spec import Spec
    from omniperf.sandbox.standing import Completed
    from omniperf.tasks.schema import Task
    from omniperf.verify.preflight import Preflight
    from omniperf.workspace.patch import Patch
    from omniperf.workspace.worktree import Workspace

T = TypeVar("T")
_SCREENING_LOOKS = (4, 6)
_PROFILE_SECONDS = 600.0
_GIT_SECONDS = 30.0
_COMMITTED = "committed as "
_KEPT = 8192  # characters of a text that the edit tool wrote, in the journal
_DECISIONS: dict[str, Literal["faster", "slower", "no_change"]] = {
    "improved": "faster",
    "regressed": "slower",
    "no_change": "no_change",
}


class SessionTools:
    """The tools, over one sandbox that stands for the whole attempt. A context manager."""

    def __init__(
        self, bench: Bench, workspace: Workspace, proved: Preflight, budget: Budget, journal: Journal, emit: Emit,
        equipped: Callable[[Spec, Task], AbstractContextManager[Spec]] | None = None,
    ) -> None:  # fmt: skip
        """With `equipped`, which an agent of its own in the sandbox has, that agent's tool calls are the steps."""
        self._bench, self._workspace, self._proved = bench, workspace, proved
        self._budget, self._journal, self._emit = budget, journal, emit
        self._counts = equipped is None
        self._stack = ExitStack()
        self._screens = 0
        self._base: Workspace | None = None  # made when the first screening asks for it
        self._committed: Workspace | None = None  # a tree as of the last commit, once a screening asked for one
        self._follows_commits = False
        self._files = Files(workspace.tree)
        self.ratchet = Ratchet()
        self.recorded: Recorded | None = None
        self.finished: str | None = None
        self.device_seconds = 0.0
        self.first_edit: float | None = None
        self.first_gain: float | None = None
        try:
            spec = bench.spec(workspace, agent=True)
            if equipped is not None:
                spec = self._stack.enter_context(equipped(spec, bench.task))
            self.sandbox = self._stack.enter_context(StandingSandbox(bench.backend, spec))
        except BaseException:
            self._stack.close()
            raise

    def bash(self, command: str, timeout: float | None = None) -> CommandResult:
        """Run a shell command in the sandbox, in the workspace's root."""
        self._step("bash", command=command)
        if "\0" in command or not _encodable(command):
            raise ToolError("The command holds a character that no shell can take.")
        done = self._command(command, timeout)
        self._journal.write("result", tool="bash", exit_code=done.exit_code, seconds=done.seconds)
        self.note_edit()
        return CommandResult(done.exit_code, done.output, done.seconds, done.stopped_by, done.dropped_bytes)

    def view(self, path: str) -> str:
        """Return a file's text."""
        self._step("view", path=path)
        return self._files.read(path)

    def create(self, path: str, text: str) -> None:
        """Write a whole file, making its folders."""
        self._step("create", path=path, **_written(text))
        self._write(path, text)

    def str_replace(self, path: str, old: str, new: str) -> None:
        """Replace the one occurrence of `old`."""
        self._step("str_replace", path=path, **_written(new))
        text = self._files.read(path)
        count = text.count(old)
        if count != 1:
            raise ToolError(f"{path} holds the text {count} times; give a text that occurs exactly once.")
        self._write(path, text.replace(old, new))

    def insert(self, path: str, line: int, text: str) -> None:
        """Insert text after that line (0: at the top)."""
        self._step("insert", path=path, line=line, **_written(text))
        lines = self._files.read(path).splitlines(keepends=True)
        if not 0 <= line <= len(lines):
            raise ToolError(f"{path} has {len(lines)} lines; line {line} is not among them.")
        lines[line:line] = [text if text.endswith("\n") else text + "\n"]
        self._write(path, "".join(lines))

    def undo(self, path: str) -> None:
        """Take back the last edit of that file."""
        self._step("undo", path=path)
        self._files.undo(path)

    def benchmark(self, against: Literal["base", "commit"] = "base") -> Screening:
        """Screen the current tree against base or the last commit: fewer pairs, a weaker claim than a verdict's."""
        self._step("benchmark", against=against)
        self._follows_commits = self._follows_commits or against == "commit"
        screening = self._recorded("benchmark", Screening) or self._screen(self._reference(against))
        if screening.decision == "faster" and screening.outputs_equal and self.first_gain is None:
            self.first_gain = time.monotonic() - self._budget.started
        if against == "base" and (state := self._state()) is not None:
            self.ratchet.saw(state, screening)
        self._journal.write("screening", **screening.__dict__)
        shown = f"screened: {screening.decision}, {screening.speedup:.2f}x" if screening.speedup else "screening failed"
        self._emit(Event("agent", shown, {"step": self._budget.steps}))
        return screening

    def test(self) -> TestReport:
        """Run the task's tests on the current tree."""
        self._step("test")
        report = self._recorded("test", TestReport) or self._tested()
        if (state := self._state()) is not None:
            self.ratchet.tested(state, passed=report.passed)
        self._journal.write("tests", **report.__dict__)
        return report

    def _tested(self) -> TestReport:
        started = time.monotonic()
        with self._bench.tree("tests", self._collected().data) as tree:
            run = run_tests(self._bench, tree, self._seconds_left())
        against = self._proved.tests.against(run) if self._proved.tests else ""
        return TestReport(not against, against, time.monotonic() - started)

    def _recorded(self, tool: str, kind: Callable[..., T]) -> T | None:
        """What the tool said when the attempt that is replayed called it; None where none is, or it said nothing."""
        if self.recorded is None or (said := self.recorded.said(tool)) is None:
            return None
        fields, seconds = said
        if not self._counts:  # a client may do something else after a while, and does so by its own clock
            with self._budget.waiting():
                time.sleep(max(0.0, seconds))  # by a clock that may have been set
        return kind(**fields)

    def profile(self, *, deep: bool = False) -> Profile:
        """Profile one run of the workload on the current tree: its functions, and its kernels on a GPU."""
        self._step("profile")
        profile = self._recorded("profile", recorded_profile) or self._profile(deep=deep)
        self._journal.write("profile", **asdict(profile))
        return profile

    def _profile(self, *, deep: bool) -> Profile:
        bench = self._bench
        try:
            with self._built(self._collected()) as tree, claimed(find_lanes(bench.task.resources)) as lane:
                made = make_arm("workspace", bench.task, bench.environment, bench.backend, tree, self._caches)
                arm = on_lane(made, lane)
                rows, timed = self._profiled(arm)
                kernels = tuple(sorted((Kernel(*row) for row in timed), key=lambda kernel: -kernel.seconds))
                counters, no_counters, memcheck = self._looked_at(arm, kernels) if deep and kernels else ((), "", "")
        except WorkloadError as error:
            raise ToolError(f"The workload could not be profiled: {error}.") from None
        spots = [
            Hotspot(path, line, name, calls, own, total)
            for file, line, name, calls, own, total in rows
            if (path := in_tree(self._bench, file)) is not None
        ]
        return Profile(
            tuple(sorted(spots, key=lambda spot: -spot.own_seconds)),
            kernels, counters, no_counters, memcheck,
        )  # fmt: skip

    def _looked_at(self, arm: Arm, kernels: tuple[Kernel, ...]) -> tuple[tuple[Counters, ...], str, str]:
        """What NVIDIA's tools say of the current tree: counters, why there are none, and memcheck's line."""
        seen = self._bench.backend, arm, self._bench.task
        counters, no_counters = kernel_counters(*seen, [kernel.name for kernel in kernels], self._seconds_left())
        return counters, no_counters, memory_check(*seen, self._seconds_left())

    def _profiled(self, arm: Arm) -> tuple[list[list[Any]], list[list[Any]]]:
        """Rows of functions and of kernels, as `Worker.profile` has them."""
        bench = self._bench
        seeds = secrets.randbits(63), secrets.randbits(63), secrets.randbits(63)
        if bench.kind != "module":
            timing = Timing(seconds=_PROFILE_SECONDS)
            seen = observe_process(bench.backend, arm, bench.task, bench.kind, timing, "profile", seeds[0])
            return seen["profile"], []
        with Worker(bench.backend, arm, bench.task, bench.kind) as worker:
            return worker.profile(seeds, _PROFILE_SECONDS)

    def commit(self, message: str) -> str:
        """Commit the whole tree in the workspace's own git; the new sha, or "" when nothing changed."""
        self._step("commit", message=message)
        sha = self._commit(message)
        self._journal.write("commit", sha=sha, message=message)
        if self._follows_commits and sha:
            self._committed = self._stack.enter_context(self._built(self._collected()))
        return sha

    def again(self, done: Mapping[str, Any], at: float) -> None:
        """Know again what a call of an earlier process had come to, whose tree this is: no step, and not journalled.

        It was made about `at`, in seconds of the attempt.
        """
        state = self._state()
        if "committed" in done:
            self._commit(done["committed"])
            if self._follows_commits:
                self._committed = self._stack.enter_context(self._built(self._collected()))
        elif "passed" in done and state is not None:
            self.ratchet.tested(state, passed=done["passed"])
        elif "screened" in done:
            self._follows_commits = self._follows_commits or done["against"] == "commit"
            screening = Screening(**done["screened"])
            if screening.decision == "faster" and screening.outputs_equal and self.first_gain is None:
                self.first_gain = at
            if done["against"] == "base" and state is not None:
                self.ratchet.saw(state, screening)

    def _commit(self, message: str) -> str:
        commit = f"git -c maintenance.auto=false commit -q -m {shlex.quote(message)}"
        say = f'echo "{_COMMITTED}$(git rev-parse HEAD)"'
        done = self._command(f"git add -A && if {commit}; then {say}; else git diff --cached --quiet; fi", None)
        if not done.ok:
            raise ToolError(f"The commit {done.ending}: {done.output.strip()[-500:]}")
        return done.output.rpartition(_COMMITTED)[2].strip() if _COMMITTED in done.output else ""

    def finish(self, summary: str) -> None:
        """Say that the work is done."""
        self._journal.write("finish", summary=summary)
        self.finished = summary

    def best(self) -> Patch | None:
        """The best state that was screened and committed, however it was committed; the agent's git says what was."""
        if not self.ratchet.candidates:
            return None
        done = self.sandbox.run("git log --all --reflog --format=%T; git log --format=%T", _GIT_SECONDS)
        return self.ratchet.best(set(done.output.split()))

    def screen_final(self, best: Patch) -> None:
        """Screen the tree as it was left, where it may be better than the best and was never screened.

        The harness asks, so it is no step of the agent's, and costs none of its minutes.
        """
        final = self._state()
        if final is None or not final.files or final.tree == best.tree or self.ratchet.knows(final):
            return
        self._emit(Event("agent", "screening the final state", {"transient": True}))
        screening = self._recorded("final", Screening) or self._screen(self._reference("base"))
        self.ratchet.saw(final, screening)
        self._journal.write("screening", of="the final state", **screening.__dict__)

    def _state(self) -> Patch | None:
        """The tree as a patch; None where it cannot be one, or not one that could count."""
        try:
            patch = collect(self._workspace)
        except OmniPerfError:
            return None
        return None if scope.rejects(scope.findings(patch, self._bench.task)) else patch

    def note_edit(self, at: float | None = None) -> None:
        """Keep when the first edit was, should the tree be edited now (or `at` that time) and not have been before.

        In a tree that began with a patch nobody can tell.
        """
        if self.first_edit is None and not self._workspace.patched and self._workspace.edited():
            self.first_edit = time.monotonic() - self._budget.started if at is None else at

    def _step(self, tool: str, **arguments: object) -> None:
        if self._counts:
            self._budget.step()
        self._journal.write("step", step=self._budget.steps, tool=tool, **arguments)
        self._emit(Event("agent", tool, {"step": self._budget.steps, "transient": True}))

    def _command(self, command: str, timeout: float | None) -> Completed:
        limit = self._budget.limits.command_seconds
        wanted = limit if timeout is None else min(timeout, limit)
        done = self.sandbox.run(command, min(wanted, self._seconds_left()))
        if done.stopped_by == "disk" and _full_without(self._workspace.root):
            raise InfraError("disk", f"{self._workspace.root} cannot be written: the disk is full.", "Make room.")
        return done

    def _seconds_left(self) -> float:
        if self._budget.seconds_left <= 0:
            raise BudgetExhaustedError("minutes", self._budget.limits.minutes)
        return self._budget.seconds_left

    def _collected(self) -> Patch:
        """The current tree as a patch: what is screened, profiled and tested is what would be verified."""
        try:
            return collect(self._workspace)
        except (OmniPerfError, OSError) as error:
            raise ToolError(f"The tree cannot be collected: {error}") from None

    @cached_property
    def _caches(self) -> Path:
        """Where the processes that are measured keep what they compile."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="omniperf-")))

    @contextmanager
    def _built(self, patch: Patch | None) -> Iterator[Workspace]:
        """A tree to measure: base with the patch, built as the task says."""
        files = tuple(file.path for file in patch.files) if patch else ()
        with self._bench.tree("screening", patch.data if patch else b"") as tree:
            if (failed := self._bench.build(tree, files)) is not None:
                raise ToolError(f"The build {failed.ending}: {failed.output[-500:]}")
            add_bytecode(self._bench, tree, self._proved.imported, files)
            yield tree

    def _reference(self, against: Literal["base", "commit"]) -> Workspace:
        """The tree to screen against; until something is committed, the last commit is base."""
        if against == "commit" and self._committed is not None:
            return self._committed
        if self._base is None:
            self._base = self._stack.enter_context(self._built(None))
        return self._base

    def _screen(self, reference: Workspace) -> Screening:
        with self._built(self._collected()) as tree:
            return self._compared(reference, tree)

    def _compared(self, reference: Workspace, tree: Workspace) -> Screening:
        bench, task = self._bench, self._bench.task
        self._screens += 1
        caches = self._caches / f"screen-{self._screens}"
        export = self._proved.exported == "in the worker"
        common = (task, bench.environment, bench.backend)
        arms = (
            make_arm("base", *common, reference, caches, export=export),
            make_arm("candidate", *common, tree, caches, export=export),
        )
        measure = task.measure.model_copy(update={"confidence": 0.95, "rule": "looks"})
        label = f"screening-{self._screens}"
        plan = Plan(
            measure, secrets.token_bytes(32), label, _SCREENING_LOOKS,
            phase="agent", warm_states=1, give_up=True, preload=self._proved.forkable,
        )  # fmt: skip
        comparable = self._proved.outputs_comparable
        with self._proved.comparer(bench, arms[0]) as comparer:
            try:
                pairs = measure_pairs(
                    bench.backend, task, bench.kind, *arms, plan, comparer if comparable else None,
                    self._measured, self._quiet,
                )  # fmt: skip
            except CandidateError as error:
                return Screening("failed", 0.0, 0.0, 0.0, 0, outputs_equal=False, reason=str(error))
            except BaseError as error:
                raise ToolError(f"Base could not be measured: {error}") from None
        self.device_seconds += pairs.lane_seconds
        self._budget.waited += pairs.lane_waited
        ratios = pairs.log_ratios(task.primary_metric)
        low, high = hl_interval(ratios, 0.90)
        state = pairs.decision.state if pairs.decision else "continue"
        decision = _DECISIONS.get(state)
        checked = False
        if decision == "faster":
            held = LaneClock()
            try:
                wrong, correctness, _ = check_behaviour(bench, self._proved, *arms, held)
            except OmniPerfError as error:
                raise ToolError(f"Base could not be run: {error}") from None
            finally:
                self.device_seconds += held.seconds
                self._budget.waited += held.waited
            if wrong:
                detail = f" ({correctness.detail})" if correctness.detail not in wrong else ""
                return Screening("failed", 0.0, 0.0, 0.0, 0, outputs_equal=False, reason=f"{wrong}{detail}")
            checked = correctness.memory_written is True
        return Screening(
            decision=decision or "undecided",
            speedup=math.exp(hodges_lehmann(ratios)),
            low=math.exp(low),
            high=math.exp(high),
            pairs=len(ratios),
            outputs_equal=True,
            reason="" if pairs.decision else "the first pairs show no gain worth measuring, or time is up",
            memory_checked=checked,
        )

    def _measured(self, line: object) -> None:
        self._journal.write("pair", measured=line)

    def _quiet(self, event: Event) -> None:
        self._emit(replace(event, data={**event.data, "transient": True}))

    def _write(self, path: str, text: str) -> None:
        self._files.write(path, text)
        if self.first_edit is None:
            self.first_edit = time.monotonic() - self._budget.started

    def __enter__(self) -> SessionTools:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _full_without(folder: Path) -> bool:
    """Whether a disk would have too little room even without what that folder holds: then it is the host's doing."""
    held = subprocess.run(("du", "-sB1", "--", str(folder)), capture_output=True, text=True, check=False, env=keyless())
    own = int(held.stdout.partition("\t")[0] or 0)
    return shutil.disk_usage(folder).free + own < LEAST_FREE


def _written(text: str) -> dict[str, object]:
    """What the journal keeps of a text that was written: its hash, and its beginning and end."""
    half = _KEPT // 2
    kept = text if len(text) <= _KEPT else f"{text[:half]}\n[... {len(text) - _KEPT} characters ...]\n{text[-half:]}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"sha256": digest, "wrote": kept.encode("utf-8", "backslashreplace").decode()}


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeError:
        return False
    return True
