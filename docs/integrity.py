"""Write the list of integrity findings anew: `python docs/integrity.py`. A test fails while it is stale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.verify.integrity import behaviour, patch, trajectory  # noqa: F401 - they register their rules
from omniperf.verify.integrity.rules import rules_of

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = Path(__file__).with_name("integrity.md")

HEAD = """\
# Integrity findings

A verdict says beside its class what was noticed of how a speedup came about. `reject`: no honest optimization does it,
and the verdict is `rejected`. `warn`: a person must look. `info`: worth knowing. An id stands twice where some of what
it finds is graver than the rest. Nothing here proves honesty: the sandbox, the clock outside and fresh inputs prevent;
these rules say what was tried. Written by `python docs/integrity.py` from the rules' own docstrings.
"""
ROOMS = {
    "patch": ("In the patch", "Before anything is run, `verify/integrity/patch.py` reads the lines that it adds."),
    "behaviour": (
        "In what was measured",
        "By `verify/integrity/behaviour.py`, where an improvement is claimed or not.",
    ),
    "unchecked": ("What could not be looked at", "By `verify/integrity/behaviour.py`."),
    "trajectory": (
        "In what the agent did",
        "By `verify/integrity/trajectory.py`, from its commands and the paths it names.",
    ),
}
# Findings that are no rule's: they are made where what they say is decided.
ELSEWHERE = (
    ("protected-file", "reject", "The patch touches tests, build, CI or start-up code.", "Change only the targets."),
    ("out-of-scope", "reject", "The patch touches a file outside the task's targets.", "Change only the targets."),
    (
        "tests-tampered",
        "reject",
        "With the patch, a test that can only fail did not.",
        "Leave the test machinery alone.",
    ),
    ("no-human-comparison", "warn", "The human patch could not be measured.", "Correct the task."),
    ("not-collected", "warn", "The final state is no patch; an earlier one was measured.", "Read the journal."),
)


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for room, (title, by) in ROOMS.items():
        parts.append(section(title, by, [(each.id, each.severity, each.what, each.remedy) for each in rules_of(room)]))
    return "\n".join([*parts, section("Elsewhere", "Where what they say is decided.", ELSEWHERE)])


def section(title: str, by: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A heading, who finds it, and a table."""
    table = ["| id | severity | what | remedy |", "|---|---|---|---|"]
    table += [f"| `{name}` | {' | '.join(said)} |" for name, *said in rows]
    return "\n".join([f"## {title}", "", by, "", *table, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
