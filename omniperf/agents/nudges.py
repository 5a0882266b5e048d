"""What the harness says to a model beside the results of its calls: what is left, and what it may have forgotten.

It is said where it can still be acted on, once, and in the plain words of a result.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.workspace.patch import collect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.protocol import Session
    from omniperf.workspace.patch import Patch

_FEW_STEPS = 5
_SHARES = (0.5, 0.75, 0.9)  # of the limit that is nearest: when what is left is said
_FIRST_EDIT = 1 / 3  # of that limit
_LAST_CALL = 0.85  # of that limit
UNMEASURED = "What you changed last was not benchmarked"


@dataclass
class _State:
    """What was said and seen so far; plain data, for resuming."""

    share: float = 0.0  # that was announced last
    edited: bool = False
    asked_to_edit: bool = False
    asked_to_measure: bool = False
    measured: str = ""  # the tree that was benchmarked last


class Nudges:
    """What one attempt was told. A state that cannot be collected is nothing to speak of here."""

    def __init__(self, session: Session) -> None:
        self._session, self._state = session, _State()

    @property
    def state(self) -> dict[str, object]:
        """What `resume` takes."""
        return asdict(self._state)

    def resume(self, state: Mapping[str, object]) -> None:
        """Go on from that state."""
        self._state = _State(**state)  # type: ignore[arg-type]

    def edited(self) -> None:
        """The model changed a file."""
        self._state.edited = True

    def measured(self) -> None:
        """The model benchmarked the tree."""
        if (patch := self._changes()) is not None:
            self._state.measured = patch.tree

    def note(self) -> str:
        """What is to be said after an exchange, or nothing."""
        state, used, lines = self._state, self._used(), []
        steps = self._session.budget.limits.steps - self._session.budget.steps
        share = max((share for share in _SHARES if used >= share), default=0.0)
        if share > state.share or steps <= _FEW_STEPS:
            lines.append(f"[left: {self._left()}]")
            state.share = max(state.share, share)
        if used >= _FIRST_EDIT and not (state.edited or state.asked_to_edit):
            state.asked_to_edit = True
            changes = self._changes()
            if changes is not None and not changes.files:
                lines.append("[A third of the budget is used, and nothing in the checkout has been changed yet.]")
        if used >= _LAST_CALL and (why := self.unmeasured()):
            lines.append(f"[{why}]")
        return "".join(f"\n{line}" for line in lines)

    def unmeasured(self) -> str:
        """That the tree as it is was not benchmarked, where that is so and there is time for it; said once."""
        budget, state = self._session.budget, self._state
        if state.asked_to_measure or budget.steps >= budget.limits.steps or not budget.seconds_left:
            return ""
        changes = self._changes()
        if changes is None or not changes.files or changes.tree == state.measured:
            return ""
        state.asked_to_measure = True
        return f"{UNMEASURED}: call `benchmark` to see what it is worth. To end without it, call `finish`."

    def _changes(self) -> Patch | None:
        try:
            return collect(self._session.workspace)
        except OmniPerfError:
            return None

    def _used(self) -> float:
        """The share of the limit that is nearest, from 0 to 1."""
        budget, limits = self._session.budget, self._session.budget.limits
        shares = [
            budget.steps / limits.steps,
            1 - budget.seconds_left / (limits.minutes * 60),
            budget.tokens.total / (limits.tokens or 1),
            (budget.usd or 0.0) / (limits.usd or 1),
        ]
        return max(shares)

    def _left(self) -> str:
        budget = self._session.budget
        minutes = budget.seconds_left / 60
        parts = [f"{budget.limits.steps - budget.steps} steps", f"{minutes:.{0 if minutes >= 2 else 1}f} min"]
        parts.append(
            f"{budget.limits.tokens - budget.tokens.total:,} tokens"
            if budget.usd is None
            else f"{max(0.0, budget.limits.usd - budget.usd):.2f} USD"
        )
        return ", ".join(parts)
