"""What an attempt may still spend."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omniperf.gateway.shared import ROUNDING
from omniperf.gateway.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omniperf.gateway.prices import Price
    from omniperf.gateway.shared import Shared
    from omniperf.tasks.schema import Limits


class BudgetExhaustedError(Exception):
    """A limit of the attempt is reached, or the next call could pass it; `limit` names it."""

    def __init__(self, limit: str, value: float, used: float | None = None, said: str = "is reached") -> None:
        if used is not None:
            said = f"could be passed by the next call ({used:,.10g} used)"
        super().__init__(f"the attempt's limit of {value:,.10g} {limit} {said}")
        self.limit = limit


class SweepSpentError(BudgetExhaustedError):
    """The USD that all attempts of a sweep may spend together are spent, or the next call could pass them."""

    def __init__(self) -> None:
        Exception.__init__(self, "the sweep's USD are spent, or could be passed by the next call")
        self.limit = "sweep"


@dataclass
class Held:
    """What is reserved for one call under way."""

    tokens: int = 0
    usd: float = 0.0


@dataclass
class Budget:
    """Counts steps, minutes, tokens and USD of one attempt against its limits. A step is one tool call.

    `waited` are seconds spent waiting for others (a lane, a throttled provider), which are not the agent's. `usd` is
    None once a call was made whose price is not known: from then on tokens alone are capped. `shared` has what all
    attempts of a sweep may spend together.
    """

    limits: Limits
    shared: Shared | None = None
    started: float = field(default_factory=time.monotonic)
    steps: int = 0
    waited: float = 0.0
    tokens: Tokens = field(default_factory=Tokens)
    usd: float | None = 0.0
    held_tokens: int = 0  # reserved for calls under way
    held_usd: float = 0.0
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)  # a replay has the recorded one
    waits: int = 0  # under way now
    _since: float = 0.0  # when the first of them began

    @property
    def seconds_left(self) -> float:
        """Wall seconds until the attempt's limit of minutes; 0 when it has passed. It stands while a wait goes on."""
        return max(0.0, self.limits.minutes * 60 + self.waited_by_now - (self.clock() - self.started))

    @property
    def waited_by_now(self) -> float:
        """`waited`, and what has passed of waits that still go on."""
        return self.waited + (self.clock() - self._since if self.waits else 0.0)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what the block takes as waited; blocks at the same time count once, and for what really passed."""
        if not self.waits:
            self._since = self.clock()
        self.waits += 1
        try:
            yield
        finally:
            self.waited, self.waits = self.waited_by_now, self.waits - 1
            self._since = self.clock()

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

    def reserve(self, sent: int, output: int, price: Price | None) -> float:
        """Raise BudgetExhaustedError unless a call of at most this size fits in what is left, calls under way counted.

        A call that is longer than any whose price is known does not: what it costs may be anything. Returns the USD
        that it can cost at most; 0 where it has no price.
        """
        self.check_time()
        used = self.tokens.total + self.held_tokens
        if used + sent + output > self.limits.tokens:
            raise BudgetExhaustedError("tokens", self.limits.tokens, used)
        if price is None:
            return 0.0
        if (most := price.most(sent, output)) is None:
            said = f"could be passed by the next call, whose price at {sent:,} tokens is not known"
            raise BudgetExhaustedError("USD", self.limits.usd, said=said)
        if self.usd is not None and self.usd + self.held_usd + most > self.limits.usd:
            raise BudgetExhaustedError("USD", self.limits.usd, round(self.usd + self.held_usd, 4))
        return most

    @contextmanager
    def holding(self, sent: int, output: int, price: Price | None) -> Iterator[Held]:
        """Reserve a call of at most this size while the block runs: calls at the same time reserve together.

        Of a sweep's USD it is reserved with those of all attempts, in whichever process they are. Raises what `reserve`
        raises, and SweepSpentError.
        """
        held, most = Held(), self.reserve(sent, output, price)
        self._hold(held, sent + output, most, fits=True)
        try:
            yield held
        finally:
            self._hold(held, 0, 0.0)

    def grow(self, held: Held, used: Tokens, price: Price | None) -> str:
        """Reserve no less than a call has used by now; the limit that is passed by what is held, "" if none is."""
        cost = (price.cost(used) if price else None) or 0.0
        self._hold(held, max(held.tokens, used.total), max(held.usd, cost))
        return self.passed()

    def _hold(self, held: Held, tokens: int, usd: float, *, fits: bool = False) -> None:
        if self.shared is not None and usd != held.usd and not self.shared.hold(usd - held.usd, fits=fits):
            raise SweepSpentError
        self.held_tokens += tokens - held.tokens
        self.held_usd += usd - held.usd
        held.tokens, held.usd = tokens, usd

    def passed(self, *, held: bool = True) -> str:
        """The limit that is passed by what is used, and held; "" where none is."""
        tokens, usd = (self.held_tokens, self.held_usd) if held else (0, 0.0)
        if self.tokens.total + tokens > self.limits.tokens:
            return "tokens"
        return "USD" if self.usd is not None and self.usd + usd > self.limits.usd + ROUNDING else ""

    def charge(self, tokens: Tokens, price: Price | None) -> None:
        """Count what a call has used."""
        self.tokens += tokens
        cost = price.cost(tokens) if price else None
        self.usd = None if self.usd is None or cost is None else self.usd + cost
        if self.shared is not None and cost:
            self.shared.pay(cost)
