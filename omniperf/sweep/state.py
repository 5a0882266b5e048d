"""Where a sweep stands, read from its folder: whoever can read that can watch, from any process and any host."""

from __future__ import annotations

import fcntl
import os
import time
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING

from omniperf.measure.lanes import held_now
from omniperf.results.standing import Cell, State
from omniperf.results.start import read_start
from omniperf.results.store import read_lines
from omniperf.sweep.outcome import cost_of_tries, finished, result_of
from omniperf.sweep.plan import read_plan

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.results.schema import Result

_PHASES = {"attempt": "workspace", "collected": "verify", "resumed": "verify", "verified": "report"}


class Watched:
    """A sweep's folder that is looked at again and again; each result is read once."""

    def __init__(self, folder: Path) -> None:
        """Raises what `read_plan` raises."""
        self._plan = read_plan(folder)
        self._folder = folder
        self._results: dict[str, Result] = {}

    def look(self) -> State:
        """Where it stands now."""
        plan = self._plan
        cells: dict[tuple[str, str], Cell] = {}
        begun = self._begun()
        state = State(plan.run_id, [], len(plan.attempts), most_usd=plan.most_usd, alive=is_running(self._folder))
        for one in plan.attempts:
            cell = cells.setdefault((one.task, one.label), Cell(one.task, one.label))
            cell.planned += 1
            result = self._results.get(one.id) or result_of(plan, one, self._folder)
            if result is not None and finished(result):
                self._results[one.id] = result  # any other may yet give way to another try
            if result is not None:
                _count(result, cell, state)
            elif state.alive and one.id in begun and (phase := _phase(self._folder / one.id)):
                start = read_start(self._folder / one.id)
                cell.running.append(f"{phase} from {start.origin}" if start else phase)
                state.running += 1
        state.usd += sum(cost_of_tries(plan, self._folder))
        state.cells = [cells[key] for key in sorted(cells)]
        state.ends_in = self._left(state)
        state.timing = held_now() if state.alive else []
        return state

    def _begun(self) -> set[str]:
        """The attempts that have begun since the sweep, or its last resumption, did, and have not ended."""
        begun: set[str] = set()
        for line in read_lines(self._folder / "journal.jsonl"):
            match line["kind"]:
                case "sweep":
                    begun.clear()
                case "started":
                    begun.add(line["attempt"])
                case "ended" if "attempt" in line:
                    begun.discard(line["attempt"])
        return begun

    def _left(self, state: State) -> float | None:
        """Seconds until the end: what is left, at the pace since the sweep, or its last resumption, began.

        No chain ends sooner than its attempts take one after another.
        """
        begun = [line for line in read_lines(self._folder / "journal.jsonl") if line["kind"] == "sweep"]
        if not begun or not state.alive or (done := state.finished - int(begun[-1]["finished"])) <= 0:
            return None
        took: float = time.time() - datetime.fromisoformat(begun[-1]["t"]).timestamp()
        left = took / done * (state.planned - state.finished)
        if self._plan.sweep.strategy == "refine":
            each = fmean(result.usage.wall_seconds for result in self._results.values())
            left = max(left, each * max(cell.planned - sum(cell.verdicts.values()) for cell in state.cells))
        return left


def is_running(folder: Path) -> bool:
    """Whether a process works on the sweep."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)  # it may be another user's
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _count(result: Result, cell: Cell, state: State) -> None:
    state.usd += result.usage.usd or 0.0
    if not finished(result):
        cell.failed += 1
        return
    state.finished += 1
    verdict = result.verdict
    cell.verdicts[verdict.class_] = cell.verdicts.get(verdict.class_, 0) + 1
    if verdict.class_ == "improved" and verdict.speedup is not None:
        cell.best = max(cell.best or 0.0, verdict.speedup.speedup)


def _phase(place: Path) -> str:
    """In which phase an attempt without a result is, "" where it has not begun."""
    phase = ""
    for line in read_lines(place / "journal.jsonl"):
        phase = _PHASES.get(line["kind"], phase if phase not in ("", "workspace") else "agent")
    return phase
