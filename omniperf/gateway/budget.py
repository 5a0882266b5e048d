"""What an attempt may still spend."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omniperf.gateway.tokens import Tokens

if TYPE_CHECKING:
    from omniperf.gateway.prices import Price
    from omniperf.tasks.schema import Limits


class BudgetExhaustedError(Exception):
    """A limit of the attempt is reached, or the next call could pass it; `limit` names it."""

    def __init__(self, limit: str, value: float, used: float | None = None, said: str = "is reached") -> None:
        if used is not None:
            said = f"could be passed by the next call ({used:,.10g} used)"
        super().__init__(f"the attempt's limit of {value:,.10g} {limit} {said}")
        self.limit = limit


@dataclass
class Budget:
    """Counts steps, minutes, tokens and USD of one attempt against its limits. A step is one tool call.

    `waited` are seconds spent waiting for others (a lane, a throttled provider), which are not the agent's. `usd` is
    None once a call was made whose price is not known: from then on tokens alone are capped.
    """

    limits: Limits
    started: float = field(default_factory=time.monotonic)
    steps: int = 0
    waited: float = 0.0
    tokens: Tokens = field(default_factory=Tokens)
    usd: float | None = 0.0

    @property
    def seconds_left(self) -> float:
        """Wall seconds until the attempt's limit of minutes; 0 when it has passed."""
        return max(0.0, self.limits.minutes * 60 + self.waited - (time.monotonic() - self.started))

    def step(self) -> None:
        """Take one step, or raise BudgetExhaustedError."""
        if self.steps >= self.limits.steps:
            raise BudgetExhaustedError("steps", self.limits.steps)
        self.check_time()
        self.steps += 1

    def check_time(self) -> None:
        """Raise BudgetExhaustedError where the minutes are over."""
        if self.seconds_left <= 0:
            raise BudgetExhaustedError("minutes", self.limits.minutes)

    def reserve(self, sent: int, output: int, price: Price | None) -> None:
        """Raise BudgetExhaustedError unless a call of at most this size fits in what is left.

        A call that is longer than any whose price is known does not: what it costs may be anything.
        """
        self.check_time()
        if self.tokens.total + sent + output > self.limits.tokens:
            raise BudgetExhaustedError("tokens", self.limits.tokens, self.tokens.total)
        if price is None:
            return
        if (most := price.most(sent, output)) is None:
            said = f"could be passed by the next call, whose price at {sent:,} tokens is not known"
            raise BudgetExhaustedError("USD", self.limits.usd, said=said)
        if self.usd is not None and self.usd + most > self.limits.usd:
            raise BudgetExhaustedError("USD", self.limits.usd, round(self.usd, 4))

    def charge(self, tokens: Tokens, price: Price | None) -> None:
        """Count what a call has used."""
        self.tokens += tokens
        cost = price.cost(tokens) if price else None
        self.usd = None if self.usd is None or cost is None else self.usd + cost
