"""The registry of integrity rules: each is a function whose docstring says what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from omniperf.results.schema import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

Severity = Literal["reject", "warn", "info"]
Room = Literal["patch", "trajectory", "behaviour", "unchecked"]
Check = Callable[..., Iterable[Any]]

_SHOWN, _LINE = 5, 200  # places of a finding, and characters of each, that are shown


@dataclass(frozen=True)
class Rule:
    """One rule. `reject`: no honest optimization does it; `warn`: a person must look; `info`: worth knowing.

    An id stands twice where some of what it finds is graver than the rest. `text` is the pattern of lines in languages
    other than Python.
    """

    room: Room
    id: str
    severity: Severity
    what: str
    remedy: str
    check: Check
    text: str = ""

    def finding(self, places: Iterable[str], said: str = "") -> Iterator[Finding]:
        """One finding of all places, or none where there are none; `said` takes the place of what the rule says."""
        found = list(dict.fromkeys(place if len(place) <= _LINE else place[:_LINE] + " ..." for place in places))
        if not found:
            return
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        evidence = "\n".join([*found[:_SHOWN], *more])
        yield Finding(
            id=self.id, severity=self.severity, message=said or self.what, evidence=evidence, remedy=self.remedy
        )


RULES: list[Rule] = []


def rule(room: Room, id_: str, severity: Severity, remedy: str, text: str = "") -> Callable[[Check], Check]:
    """Register a function as a rule; the first paragraph of its docstring is what it says."""

    def register(check: Check) -> Check:
        what = " ".join((check.__doc__ or "").strip().split("\n\n")[0].split())
        RULES.append(Rule(room, id_, severity, what, remedy, check, text))
        return check

    return register


def rules_of(room: Room) -> list[Rule]:
    """The rules of one room, in their order."""
    return [each for each in RULES if each.room == room]


def unrepeated(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings without those that say again, of the same place, what an earlier one said."""
    return tuple({(each.id, each.message, each.evidence): each for each in findings}.values())
