"""What an attempt may still spend."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omniperf.tasks.schema import Limits


class BudgetExhaustedError(Exception):
    """A limit of the attempt is reached; `limit` names it."""

    def __init__(self, limit: str, value: float) -> None:
        super().__init__(f"the attempt's limit of {value:g} {limit} is reached")
        self.limit = limit


@dataclass
class Budget:
    """Counts steps and minutes of one attempt against its limits. A step is one tool call.

    `waited` are seconds spent waiting for others on the host, which are not the agent's.
    """

    limits: Limits
    started: float = field(default_factory=time.monotonic)
    steps: int = 0
    waited: float = 0.0

    @property
    def seconds_left(self) -> float:
        """Wall seconds until the attempt's limit of minutes; 0 when it has passed."""
        return max(0.0, self.limits.minutes * 60 + self.waited - (time.monotonic() - self.started))

    def step(self) -> None:
        """Take one step, or raise BudgetExhaustedError."""
        if self.steps >= self.limits.steps:
            raise BudgetExhaustedError("steps", self.limits.steps)
        if self.seconds_left <= 0:
            raise BudgetExhaustedError("minutes", self.limits.minutes)
        self.steps += 1
