"""The scheduler: which attempt starts when, until all that was planned is there, or something says stop.

What is finished is what has a result; the journal says what happened and is asked for nothing. So a sweep that is
killed at any moment goes on with exactly what is unfinished.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter, defaultdict, deque
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from omniperf.gateway.shared import ROUNDING
from omniperf.record import AttemptSpec
from omniperf.results.events import Event
from omniperf.results.journal import Journal
from omniperf.sweep.chain import Chain, keep_start, refining
from omniperf.sweep.collected import collected, last_step
from omniperf.sweep.engine import Ended, Item
from omniperf.sweep.failures import Failures
from omniperf.sweep.outcome import cost_of_tries, finished, lost, result_of
from omniperf.workspace.leftovers import clear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from omniperf.results.events import Emit
    from omniperf.results.schema import Result
    from omniperf.settings import Settings
    from omniperf.sweep.engine import Engine, Report
    from omniperf.sweep.plan import Plan, Planned

_TRIES = 3  # of an attempt that host or provider ended
_LOOK = 0.5  # seconds between looks at whether somebody wants it to stop


@dataclass
class Progress:
    """Where a sweep stands. `stopped` says why it ended before everything was done, or nothing."""

    done: int = 0
    spent: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    stopped: str = ""


class Scheduler:
    """Runs a plan on an engine. `wanted` is asked twice a second: whether to go on starting attempts.

    `allow` is told the USD that are left for all that is unfinished.
    """

    def __init__(
        self, plan: Plan, folder: Path, engine: Engine, settings: Settings, emit: Emit, wanted: Callable[[], bool],
        allow: Callable[[float], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._allow = allow
        self._plan, self._folder, self._engine, self._settings = plan, folder, engine, settings
        self._emit, self._wanted = emit, wanted
        self.progress = Progress()
        self._running: dict[str, Planned] = {}
        self._tries: Counter[str] = Counter()
        self._failures = Failures()
        self._files = {task.id: task.file for task in plan.tasks}
        self._contenders = {one.name: one for one in plan.sweep.agents}
        self._refining = refining(plan.sweep)
        self._chains: dict[tuple[str, str], Chain] = defaultdict(Chain)

    def prepare(self) -> None:
        """See that all that is unfinished can run. Raises UsageError, InfraError and PromptBlockedError."""
        found: dict[tuple[str, str], Planned] = {}
        for one in self._unfinished():
            found.setdefault((one.task, one.label), one)
        self._engine.prepare([self._item(one, usd=None) for one in found.values()])

    def run(self) -> Progress:
        """Make every attempt that has no result yet."""
        todo = deque(self._unfinished())
        for one in self._plan.attempts:
            if (result := self._result(one)) is not None:
                self._pay(result)
                if finished(result):
                    self._count(one, result)
            else:
                self._pay_lost(one)
        self.progress.spent += sum(cost_of_tries(self._plan, self._folder))
        self._allow(self._plan.most_usd - self.progress.spent)
        with Journal(self._folder / "journal.jsonl") as journal:
            journal.write("sweep", attempts=len(self._plan.attempts), finished=self.progress.done, left=len(todo))
            while todo or self._running:
                self._start(todo, journal)
                if not self._running:
                    break
                self._emit(Event("report", "", {"attempt": "", "transient": True}))
                for report in self._engine.reports(_LOOK):
                    self._take(report, todo, journal)
            if self.progress.done == len(self._plan.attempts):  # it was interrupted too late to matter
                self.progress.stopped = ""
            journal.write("ended", finished=self.progress.done, stopped=self.progress.stopped)
        return self.progress

    def _unfinished(self) -> Iterator[Planned]:
        """What is still to be done, in the order of the plan."""
        return (one for one in self._plan.attempts if not finished(self._result(one)))

    def _start(self, todo: deque[Planned], journal: Journal) -> None:
        """Start attempts while there is room for them on the engine and in the budget."""
        if not self.progress.stopped and not self._wanted():
            self.progress.stopped = "interrupted"
            said = f"finishing what is running ({len(self._running)}); interrupt again to stop at once"
            self._emit(Event("report", said, {}))
        while todo and len(self._running) < self._engine.capacity and not self.progress.stopped:
            allowed, held = self._plan.most_usd, sum(other.usd for other in self._running.values())
            left = allowed - self.progress.spent - held
            # With less than its limit an attempt starts only when nobody can give any back.
            most = left + ROUNDING if held else math.inf if left > ROUNDING else 0.0
            found = next((one for one in todo if self._may_start(one) and one.usd <= max(0.0, most)), None)
            if found is None:
                if not self._running and any(map(self._may_start, todo)):
                    self.progress.stopped = f"the sweep's {allowed:g} USD are spent (--usd allows more)"
                return
            one = found.model_copy(update={"usd": min(found.usd, left)}) if found.usd else found
            todo.remove(found)
            self._set_aside(one)
            if one.label in self._refining:
                keep_start(self._chains[one.task, one.label].start(one.n), self._place(one))
            journal.write("started", attempt=one.id)
            self._running[one.id] = one
            self._engine.submit(self._item(one, usd=one.usd))

    def _may_start(self, one: Planned) -> bool:
        """An attempt of a chain starts when all before it have ended."""
        return one.label not in self._refining or self._chains[one.task, one.label].reaches(one.n)

    def _take(self, report: Report, todo: deque[Planned], journal: Journal) -> None:
        if not isinstance(report, Ended):
            self._emit(Event(report.phase, report.message, {**report.data, "attempt": report.id}))
            return
        one = self._running.pop(report.id)
        if report.how:
            clear(self._scratch(one), self._settings.cache)
        else:
            shutil.rmtree(self._scratch(one), ignore_errors=True)
        result = self._result(one)
        journal.write("ended", attempt=one.id, how=report.how, outcome=result.outcome.kind if result else None)
        if result is None:
            self._pay_lost(one)
            self._failed(one, None, f"Its process ended with {report.how or 'no result'}.", todo)
            return
        self._pay(result)
        if not finished(result):
            outcome = result.outcome
            self._failed(one, outcome.infra_kind or outcome.kind, outcome.detail, todo)
            return
        self._failures.end()
        self._count(one, result)
        self._emit(Event("report", _came_to(result), {"attempt": one.id}))

    def _failed(self, one: Planned, kind: str | None, detail: str, todo: deque[Planned]) -> None:
        """Try an attempt again that was not ended by its agent, unless that is of no use."""
        self._tries[one.id] += 1
        again = self._tries[one.id] < _TRIES
        said = f"{detail} It will be tried again." if again else detail
        self._emit(Event("report", said, {"attempt": one.id}))
        self.progress.stopped = self._failures.add(kind, detail) or self.progress.stopped
        if again:
            todo.append(next(planned for planned in self._plan.attempts if planned.id == one.id))

    def _count(self, one: Planned, result: Result) -> None:
        if one.label in self._refining:
            self._chains[one.task, one.label].add(result, self._place(one))
        self.progress.done += 1
        self.progress.verdicts[result.verdict.class_] += 1

    def _pay(self, result: Result) -> None:
        self.progress.spent += result.usage.usd or 0.0

    def _pay_lost(self, one: Planned) -> None:
        """Count a try that left no result and cannot be gone on with, before what is left is given to anybody."""
        if not self._goes_on(one):
            self.progress.spent += lost(self._place(one), one.usd)

    def _place(self, one: Planned) -> Path:
        return self._folder / one.id

    def _scratch(self, one: Planned) -> Path:
        """Its own for certain, and short: paths of sockets have little room."""
        return self._settings.worktrees / self._plan.run_id / sha256(one.id.encode()).hexdigest()[:12]

    def _result(self, one: Planned) -> Result | None:
        return result_of(self._plan, one, self._folder)

    def _set_aside(self, one: Planned) -> None:
        """Make room: what an earlier try left is kept elsewhere, but for what can be gone on from."""
        if self._scratch(one).exists():
            clear(self._scratch(one), self._settings.cache)
        place, result = self._place(one), self._result(one)
        if result is not None and result.outcome.phase == "verify" and collected(place):  # only its measurement failed
            (place / "result.json").unlink()
            self.progress.spent -= result.usage.usd or 0.0  # the next result has it too
        if not place.is_dir() or self._goes_on(one):
            return
        kept = self._folder / "interrupted" / one.task
        kept.mkdir(parents=True, exist_ok=True)
        number = len(list(kept.glob(f"{one.label}.{one.n}.*"))) + 1
        place.rename(kept / f"{one.label}.{one.n}.{number}")

    def _goes_on(self, one: Planned) -> bool:
        """Whether what an earlier try left can be gone on from."""
        place, agent = self._place(one), self._contenders[one.label].agent
        return not (place / "result.json").exists() and bool(collected(place) or last_step(place, agent))

    def _item(self, one: Planned, usd: float | None) -> Item:
        sweep, contender = self._plan.sweep, self._contenders[one.label]
        limits = {key: value for key, value in sweep.limits.model_dump().items() if value is not None}
        if usd:
            limits["usd"] = usd
        spec = AttemptSpec(
            run_id=self._plan.run_id,
            agent=contender.agent,
            label=one.label,
            n=one.n,
            options={key: str(value) for key, value in contender.options.items()},
            limits=limits,
            verify=sweep.verify,
            template=sweep.template,
            hints=sweep.hints,
            versus_human=sweep.versus_human,
            claims=sweep.attempts,
        )
        folder, scratch = str(self._place(one)), str(self._scratch(one))
        return Item(one.id, self._files[one.task], folder, scratch, asdict(spec))


def _came_to(result: Result) -> str:
    speedup = result.verdict.speedup
    return f"{result.verdict.class_} {speedup.speedup:.3f}x" if speedup else result.verdict.class_
