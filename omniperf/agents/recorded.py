"""What the tools of a recorded attempt said, from its journal: a replay takes it in place of measuring again."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from omniperf.agents.protocol import Hotspot, Kernel, Profile
from omniperf.gateway.budget import SweepSpentError
from omniperf.gateway.shared import Shared
from omniperf.measure.gpu_tools import Counters
from omniperf.results.store import read_lines
from omniperf.tasks.schema import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.agents.providers.tape import Playback
    from omniperf.gateway.budget import Budget

_KINDS = {"screening": "benchmark", "tests": "test", "profile": "profile"}
_HEARD = (*_KINDS, "step", "result", "commit", "call-failed")
_INSTANT = 0.001  # seconds
_OURS = {"t", "kind", "of"}  # fields of a line that are not the tool's


class Recorded:
    """The results of benchmark, test and profile in the order of the calls, and how the attempt began and ended."""

    def __init__(self, folder: Path) -> None:
        self.agent, self.options = "", {}
        self.limits: Limits | None = None  # older recordings do not have them
        self.out_of_minutes = self.out_of_sweep = False
        self.source, self.sha256 = "", ""  # of the patch that was collected; empty where none was
        self._said: dict[str, list[tuple[dict[str, Any], float] | None]]
        self._said = {tool: [] for tool in (*_KINDS.values(), "final")}
        began = 0.0
        for line in read_lines(folder / "journal.jsonl"):
            kind, tool = line["kind"], line.get("tool")
            if kind == "attempt":
                self.agent, self.options = str(line["agent"]), dict(line.get("options") or {})
                self.limits = Limits(**line["limits"]) if "limits" in line else None
            elif kind == "step" and tool in self._said and "refused" not in line:
                self._said[tool].append(None)
                began = _time(line)
            elif kind == "collected":
                self.source, self.sha256 = str(line["source"]), str(line["sha256"])
                detail = str(line["outcome"]["detail"]) if line["outcome"]["kind"] == "budget" else ""
                self.out_of_minutes, self.out_of_sweep = " minutes " in detail, detail == str(SweepSpentError())
            elif kind in _KINDS:
                fields = {name: value for name, value in line.items() if name not in _OURS}
                if "of" in line:
                    self._said["final"].append((fields, 0.0))
                else:
                    self._said[_KINDS[kind]][-1] = fields, _time(line) - began

    def said(self, tool: str) -> tuple[dict[str, Any], float] | None:
        """What the next call of that tool said, and after how many seconds.

        None where it failed, or there is no more: then it is made.
        """
        return self._said[tool].pop(0) if self._said[tool] else None


class RecordedClock:
    """What an attempt's clock had read at each request and record of its journal, read again where a replay is now.

    Where the attempt ended because its minutes were over, and nothing of it is left, they are over now too.
    """

    def __init__(self, folder: Path, budget: Budget, *, over: bool) -> None:
        self._budget, self._over = budget, over
        began = [
            (_time(line), "request", float(line["seconds"])) for line in read_lines(folder / "trajectory.jsonl")
            if line["kind"] == "request"
        ]  # fmt: skip
        heard = [
            (_time(line), str(line["kind"]), None) for line in read_lines(folder / "journal.jsonl")
            if line["kind"] in _HEARD and "of" not in line and "outcome" not in line
        ]  # fmt: skip
        self._events: list[tuple[str, float]] = []
        at, then = 0.0, 0.0
        for time, kind, seconds in sorted([*began, *heard], key=lambda event: event[0]):
            at, then = (time, seconds) if seconds is not None else (at, then)
            self._events.append((kind, then + time - at))
        self._next, self._elapsed = 0, 0.0

    def passed(self, kind: str) -> None:
        """The replay has come to its next event of that kind."""
        for at in range(self._next, len(self._events)):
            if self._events[at][0] == kind:
                self._next, self._elapsed = at + 1, self._events[at][1]
                return

    def __call__(self) -> float:
        """The reading, as seconds of the budget's clock; what was waited for others has passed too."""
        budget, limit = self._budget, self._budget.limits.minutes * 60
        at_end = self._over and self._next == len(self._events)
        return budget.started + budget.waited + (limit + _INSTANT if at_end else min(self._elapsed, limit - _INSTANT))


class RecordedShared(Shared):
    """The USD of a sweep whose others had spent them: they last as long as the recording has replies."""

    def __init__(self, playback: Playback) -> None:
        super().__init__()
        self._playback = playback

    def hold(self, usd: float, *, fits: bool = False) -> bool:  # noqa: ARG002 - nothing is paid
        """There is enough for whatever call, and nothing at all once every reply was played."""
        return not fits or self._playback.left > 0


def _time(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["t"]).timestamp()


def recorded_profile(
    functions: list[dict[str, Any]], kernels: list[dict[str, Any]], counters: list[dict[str, Any]],
    no_counters: str, memcheck: str,
) -> Profile:  # fmt: skip
    """A profile as the journal has it."""
    return Profile(
        tuple(Hotspot(**one) for one in functions), tuple(Kernel(**one) for one in kernels),
        tuple(Counters(**one) for one in counters), no_counters, memcheck,
    )  # fmt: skip
