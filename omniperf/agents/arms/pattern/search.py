"""The search of `pattern`: profile, propose, measure, keep or undo."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from omniperf.agents.arms.pattern.candidates import (
    Candidate,
    Function,
    fingerprint,
    function_at,
    functions,
    is_kernel,
    parts,
    proposals,
)
from omniperf.agents.arms.pattern.kernels import launches
from omniperf.agents.arms.pattern.rules import all_rules, flagged
from omniperf.agents.arms.pattern.source import Source
from omniperf.agents.files import write_inside
from omniperf.agents.protocol import ToolError
from omniperf.gateway.budget import BudgetExhaustedError
from omniperf.tasks.globs import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.rules import Rule
    from omniperf.agents.protocol import Screening, Session

LEAST_SHARE = 0.01  # of the run, callees included: no gain in a cooler function can be told from noise
SAVES_A_CONSTANT = 40  # the rank from which rules do no more than that
TRIAL_STEPS = 5  # create, benchmark (twice where that is undecided), test, then commit or create

Result = Literal["kept", "slow", "wrong"]


class _NoRoomError(BudgetExhaustedError):
    """The steps that are left do not suffice for another trial."""

    def __init__(self, left: int, limit: int) -> None:
        super().__init__("steps", limit)
        self.args = (f"{left} of {limit} steps are left, and a trial takes {TRIAL_STEPS}",)


@dataclass(frozen=True)
class _Hot:
    """A function worth trying, and its share of the own time of all functions of the tree."""

    path: str
    source: Source
    function: Function
    share: float


@dataclass
class Search:
    """What one attempt knows: what is kept, what was tried, and the edit that is not decided yet."""

    session: Session
    kept: list[str] = field(default_factory=list)
    gain: float = 1.0
    tried: set[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=set)
    texts: set[tuple[str, int]] = field(default_factory=set)
    pending: tuple[str, str] | None = None
    trials: int = 0

    def run(self) -> None:
        """Go through the candidates; once one is kept, profile anew, for the rest builds on it."""
        while any(self.attempt(hot, rule) for hot, rule in self.pairs()):
            pass

    def pairs(self) -> Iterator[tuple[_Hot, Rule]]:
        """Yield function and rule: what changes the complexity on every function first, then what saves a constant.

        A constant is a small part of a function's own time, so a function with little of that is passed over.
        """
        found = self.hot_functions()
        yield from ((hot, rule) for hot in found for rule in all_rules() if rule.RANK < SAVES_A_CONSTANT)
        least = 2 * self.session.task.measure.min_effect
        yield from (
            (hot, rule) for hot in found if hot.share >= least for rule in all_rules() if rule.RANK >= SAVES_A_CONSTANT
        )

    def hot_functions(self) -> list[_Hot]:
        """Profile the workload and return the targets' functions, most own time first.

        A kernel's time on the GPU, which the profiler of Python does not see, counts for whoever launches it.
        """
        seen = self.session.tools.profile()
        on_gpu: defaultdict[str, float] = defaultdict(float)
        for timed in seen.kernels:
            on_gpu[timed.name] += timed.seconds
        all_own = sum(spot.own_seconds for spot in seen.functions) + sum(on_gpu.values()) or 1.0
        longest = max((spot.total_seconds for spot in seen.functions), default=0.0)
        shares: dict[tuple[str, str], _Hot] = {}
        sources: dict[str, tuple[Source, list[Function]] | None] = {}
        for spot in seen.functions:
            if not self.in_targets(spot.file):
                continue
            if spot.file not in sources:
                sources[spot.file] = self.read(spot.file)
            source, found = sources[spot.file] or (None, [])
            function = function_at(found, spot.line)
            if source is None or function is None:
                continue
            names = {name for name, _ in launches(function.node)}
            before = shares.get((spot.file, function.name))
            launched = sum(on_gpu[name] for name in names) / all_own if before is None else 0.0
            if spot.total_seconds < LEAST_SHARE * longest and launched < LEAST_SHARE:
                continue
            share = spot.own_seconds / all_own + launched + (before.share if before else 0.0)
            shares[spot.file, function.name] = _Hot(spot.file, source, function, share)
            for kernel in found:
                if kernel.name in names and is_kernel(kernel):
                    own = on_gpu[kernel.name] / all_own if seen.kernels else share
                    shares.setdefault((spot.file, kernel.name), _Hot(spot.file, source, kernel, own))
        return sorted(shares.values(), key=lambda hot: -hot.share)

    def in_targets(self, path: str) -> bool:
        """Whether the task lets the patch touch a file, and the file is one that rules can read."""
        inside = path.endswith(".py") and matches(path, self.session.task.targets)
        return inside and not (self.session.workspace.tree / path).is_symlink()

    def read(self, path: str) -> tuple[Source, list[Function]] | None:
        """Parse a file; None where it cannot be read or is no Python."""
        try:
            source = Source.parse(self.session.tools.view(path))
        except ToolError:
            return None
        return (source, functions(source)) if source else None

    def attempt(self, hot: _Hot, rule: Rule) -> bool:
        """Try what a rule proposes and, where all places at once are wrong, place by place; True once one is kept."""
        if is_kernel(hot.function) and not flagged(rule, "ON_KERNELS"):
            return False
        for candidate in proposals(hot.source, hot.function, rule):
            result = self.trial(hot, candidate)
            if result == "wrong" and len(candidate.sites) > 1:
                return any(self.trial(hot, part) == "kept" for part in parts(hot.source, hot.function, rule))
            if result == "kept":
                return True
        return False

    def trial(self, hot: _Hot, candidate: Candidate) -> Result:
        """Put a candidate in place, measure it, and keep it or put the old text back."""
        key = (hot.path, candidate.function, candidate.rule, candidate.sites)
        text = (hot.path, fingerprint(candidate.text))
        if key in self.tried or text in self.texts:
            return "slow"
        self.tried.add(key)
        self.texts.add(text)
        self.make_room()
        tools, old = self.session.tools, hot.source.module.code
        self.trials += 1
        self.pending = (hot.path, old)
        tools.create(hot.path, candidate.text)
        result = self.judge(speculative=candidate.speculative)
        if result == "kept":
            self.pending = None
            self.kept.append(candidate.description)
            tools.commit(candidate.description)
        else:
            tools.create(hot.path, old)
            self.pending = None
        return result

    def judge(self, *, speculative: bool) -> Result:
        """Benchmark the tree and, only if that was faster, test it.

        What is speculative is wrong until a run with poisoned memory gave base's outputs.
        """
        try:
            # Against what is kept, not against base: a small gain on top of a large one would drown in its error.
            seen = self.session.tools.benchmark(against="commit")
            if leaning := _leans(seen):  # a gain that differs from input to input: it is seen twice, or it is none
                seen = self.session.tools.benchmark(against="commit")
            if seen.decision == "failed" or not seen.outputs_equal:
                return "wrong"
            if seen.decision != "faster" and not (leaning and _leans(seen)):
                return "slow"
            if speculative and not seen.memory_checked:
                return "wrong"
            if not self.session.tools.test().passed:
                return "wrong"
        except ToolError:
            return "wrong"
        self.gain *= seen.speedup
        return "kept"

    def make_room(self) -> None:
        """Stop before a trial that the steps do not suffice to end, so that nothing undecided stays in the tree."""
        budget = self.session.budget
        if budget.limits.steps - budget.steps < TRIAL_STEPS:
            raise _NoRoomError(budget.limits.steps - budget.steps, budget.limits.steps)

    def undo_pending(self) -> None:
        """Put the last kept text back by hand where the tools no longer do: nothing undecided may be collected."""
        if self.pending is not None:
            path, text = self.pending
            write_inside(self.session.workspace.tree, path, text.encode("utf-8", "surrogateescape"))

    def report(self) -> str:
        """Say in a few lines what was tried and kept."""
        if not self.kept:
            return f"{self.trials} rewrites tried, none kept."
        seen = f"screened about {self.gain:.2f}x in all"
        return "\n".join((f"{self.trials} rewrites tried, {len(self.kept)} kept, {seen}:", *self.kept))


def _leans(seen: Screening) -> bool:
    """Whether a screening shows a gain, but too uneven a one to be called faster."""
    return seen.decision == "undecided" and seen.low > 1
