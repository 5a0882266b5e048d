"""What the tools of a recorded attempt said, from its journal: a replay takes it in place of measuring again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omniperf.agents.protocol import Hotspot, Kernel, Profile
from omniperf.measure.gpu_tools import Counters
from omniperf.results.store import read_lines

if TYPE_CHECKING:
    from pathlib import Path

_KINDS = {"screening": "benchmark", "tests": "test", "profile": "profile"}
_OURS = {"t", "kind", "of"}  # fields of a line that are not the tool's


class Recorded:
    """The results of benchmark, test and profile in the order of the calls, and how the attempt began."""

    def __init__(self, folder: Path) -> None:
        self.agent, self.options = "", {}
        self._said: dict[str, list[dict[str, Any] | None]] = {tool: [] for tool in (*_KINDS.values(), "final")}
        for line in read_lines(folder / "journal.jsonl"):
            kind, tool = line["kind"], line.get("tool")
            if kind == "attempt":
                self.agent, self.options = str(line["agent"]), dict(line.get("options") or {})
            elif kind == "step" and tool in self._said and "refused" not in line:
                self._said[tool].append(None)
            elif kind in _KINDS:
                fields = {name: value for name, value in line.items() if name not in _OURS}
                if "of" in line:
                    self._said["final"].append(fields)
                else:
                    self._said[_KINDS[kind]][-1] = fields

    def said(self, tool: str) -> dict[str, Any] | None:
        """What the next call of that tool said; None where it failed, or there is no more: then it is made."""
        return self._said[tool].pop(0) if self._said[tool] else None


def recorded_profile(
    functions: list[dict[str, Any]], kernels: list[dict[str, Any]], counters: list[dict[str, Any]],
    no_counters: str, memcheck: str,
) -> Profile:  # fmt: skip
    """A profile as the journal has it."""
    return Profile(
        tuple(Hotspot(**one) for one in functions), tuple(Kernel(**one) for one in kernels),
        tuple(Counters(**one) for one in counters), no_counters, memcheck,
    )  # fmt: skip
