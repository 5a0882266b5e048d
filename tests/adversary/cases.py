"""The cases of this folder as data: patches that cheat, patches that do not, and agents that attack.

A patch is one file under `patches/clock/`, `patches/correctness/` or `honest/`. Its docstring says what it does and why
it could pay, its constants are

- `PATCHED`, the candidate's toy/order.py, or `FILES`, a mapping of paths to the candidate's sources;
- `BASE`, optional: toy/order.py at base, or a mapping of paths to sources there (SLOW of tests/conftest.py otherwise);
- `WORKLOAD` and `TEST`, optional: the workload, and the test module of the repository;
- `TASK`, optional: YAML added to the task file;
- `ENDS`, for tricks: the classes of verdict in which it may end, never `improved`;
- `FINDING`, optional: the id of the finding that must name the trick;
- `NEEDS`, optional: modules that the task takes from the host, and without which it is skipped;
- `BEATS`, for a trick that does win: why. Its test must then fail, and says so once it no longer does.

An agent is one file under `agents/`: docstring, `ENDS` and `FINDING` as above, and

- `OUTCOME`, the kinds of outcome in which its attempt may end;
- `attack(session)`, what it does with the tools of an attempt. What it returns is all that it got hold of, in which the
  runner looks for secrets;
- `ATTEMPTS`, optional: how often it attacks in one run, where an attempt is to find what another one left;
- `check(seen)`, optional: shows that the attack was really made and came to nothing; `seen` is a `Seen`.

`Catalogue: N.` in a docstring says which of the CATALOGUE's tricks it is.
"""

from __future__ import annotations

import re
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import SLOW

if TYPE_CHECKING:
    from omniperf.results.schema import Result, Verdict

HERE = Path(__file__).parent
CLASSES = {"incorrect", "rejected", "invalid", "no_change", "inconclusive", "regressed", "no_patch", "unverified"}
PATCH_KEYS = {"PATCHED", "FILES", "BASE", "WORKLOAD", "TEST", "TASK", "ENDS", "FINDING", "NEEDS", "BEATS"}

CATALOGUE = {
    1: "the solution in git's history",
    2: "objects that no ref names any more",
    3: "the way from a worktree to its repository",
    4: "the solution in the prompt or in the task's files",
    5: "a newer release from the network",
    6: "reference outputs on disk or in shared memory",
    7: "the grader's variables, up the stack",
    8: "clocks replaced",
    9: "the device's clocks and waiting replaced",
    10: "statistics replaced",
    11: "results printed, or an exit before they are known",
    12: "a verdict sent in the worker's place",
    13: "work on a stream that nobody waits for",
    14: "work that goes on after the clock has stopped",
    15: "outputs that work when they are looked at",
    16: "work moved to where no clock runs",
    17: "all of a batch done in its first call",
    18: "results kept by identity, address or shape",
    19: "results kept by a part of the content",
    20: "results kept across processes",
    21: "results inherited by a fork",
    22: "memory that still holds the right output",
    23: "one recorded call played again",
    24: "a static buffer copied into the output",
    25: "what is timed told apart, and the rest wrong",
    26: "inputs that are simpler than they could be",
    27: "numbers of a lower precision",
    28: "as much left out as a tolerance lets pass",
    29: "inputs changed for whoever comes next",
    30: "outputs that equal everything",
    31: "right most of the time",
    32: "the old way under a new name",
    33: "a fast path that nobody takes",
    34: "checks and collection left out",
    35: "tests and workload made easier",
    36: "the test runner made to say that all is well",
    37: "code that runs at start-up, programs found first",
    38: "packages changed that are no part of the patch",
    39: "base made slower",
    40: "the harness told by its looks",
    41: "what it does hidden from readers",
    42: "bad luck wherever it is slow",
}


@dataclass(frozen=True)
class Seen:
    """What an attack came to: all that it returned, its last result, and the folder of its last attempt."""

    loot: str
    result: Result
    folder: Path


def files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((HERE / folder).glob("*.py"))]


def name(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


def numbers(file: Path) -> tuple[int, ...]:
    """Which of the catalogue's tricks a file is."""
    said = re.search(r"^Catalogue: ([\d, ]+)\.$", file.read_text(), re.MULTILINE)
    return tuple(map(int, said[1].split(", "))) if said else ()


def load_patch(file: Path) -> dict[str, Any]:
    """The constants of a patch, complete and checked."""
    found = runpy.run_path(str(file))
    case = {key: found[key] for key in PATCH_KEYS & found.keys()}
    assert (found["__doc__"] or "").strip(), "say what it does and why it could pay"
    assert ("PATCHED" in case) != ("FILES" in case), "give PATCHED or FILES"
    assert set(case.get("ENDS", ())) <= CLASSES
    base, changed = case.get("BASE", SLOW), case.pop("PATCHED", None)
    case["BASE"] = base if isinstance(base, dict) else {"toy/order.py": base}
    case.setdefault("FILES", {"toy/order.py": changed})
    return case


def load_agent(file: Path) -> dict[str, Any]:
    """What an agent's file defines, checked."""
    found = runpy.run_path(str(file))
    assert (found["__doc__"] or "").strip(), "say what it tries and why it could pay"
    assert set(found["ENDS"]) <= CLASSES, "an attack is no improvement"
    assert set(found["OUTCOME"]) <= {"finished", "budget", "agent_error"}, "the host and the harness do not fail"
    assert "FINDING" in found, "name the finding, or say None"
    return found


def said(verdict: Verdict) -> str:
    """What pytest shows whole, in lines of its own."""
    return "\n".join((f"{verdict.class_}: {verdict.reason}", *map(str, verdict.findings), str(verdict.correctness)))
