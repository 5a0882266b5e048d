"""One attempt inside the gateway: what it may spend, what it has used, and the record of its exchanges."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from omniperf.errors import InfraError
from omniperf.gateway.budget import BudgetExhaustedError
from omniperf.gateway.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from omniperf.gateway.budget import Budget
    from omniperf.gateway.client import Client
    from omniperf.gateway.prices import Price, PriceFile
    from omniperf.gateway.process import Upstream
    from omniperf.gateway.recording import Exchange
    from omniperf.gateway.shapes import Provider
    from omniperf.gateway.tokens import Tokens

_MOMENT = 0.01  # seconds after which an exchange is written: a client that asks again at once goes first
UNWRITTEN = 8  # exchanges of an attempt that may be waiting to be written when it begins another


class Attempt:
    """The account of one attempt. `replay` are the exchanges that it is answered from, where it is.

    Its exchanges are written one after another by `writer`, a thread, so that no stream waits for the disk; without a
    folder they are not.
    """

    def __init__(
        self, token: str, budget: Budget, upstreams: Mapping[Provider, Upstream], folder: Path | None,
        prices: PriceFile, replay: list[Exchange] | None, client: Client, writer: Executor,
    ) -> None:  # fmt: skip
        self.client = client
        self.token, self.budget, self.upstreams, self.replay = token, budget, upstreams, replay
        self._recorder = Recorder(folder) if folder else None
        self._writer, self._unwritten = writer, set[asyncio.Task[None]]()
        self.exchanges = 0
        self.stopped = ""
        self.failure: InfraError | None = None
        self._prices = prices
        self._timed: set[asyncio.Timeout] = set()
        self._models: list[str] = []
        self._known: dict[str, list[Price]] = {}

    def dearest(self, asked: str, sent: int, output: int) -> Price | None:
        """Of the prices that a call may have, the highest, or one that is not known for its length."""
        known = self._priced(asked)
        if len(known) < 2:  # asked at every event of a stream
            return known[0] if known else None

        def most(price: Price) -> float:
            usd = price.most(sent, output)
            return math.inf if usd is None else usd

        return max(known, key=most)

    def _priced(self, asked: str) -> list[Price]:
        """The prices of a model, and of those that answered when it was asked for.

        Names that have none are not kept: a client may send any number of them, and of any length.
        """
        if (known := self._known.get(asked)) is None:
            known = [own] if (own := self._prices.of(asked)) else []
            if known:
                self._known[asked] = known
        return known

    def check(self) -> None:
        """Raise BudgetExhaustedError where a limit is reached. A step is a tool call in a reply."""
        self.budget.check_time()
        if self.budget.steps >= self.budget.limits.steps:
            raise BudgetExhaustedError("steps", self.budget.limits.steps)

    @asynccontextmanager
    async def timed(self) -> AsyncIterator[None]:
        """End the block when the minutes end, waits not counted. Raises BudgetExhaustedError."""
        limit = asyncio.timeout(None if self.budget.waits else self.budget.seconds_left)
        try:
            async with limit:
                self._timed.add(limit)
                try:
                    yield
                finally:
                    self._timed.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            raise BudgetExhaustedError("minutes", self.budget.limits.minutes) from None

    async def wait(self, seconds: float) -> None:
        """Wait for a server; that time is not the agent's, and moves every end that was set before."""
        try:
            with self.budget.waiting():
                self._move(None)
                await asyncio.sleep(seconds)
        finally:
            self._move(None if self.budget.waits else asyncio.get_running_loop().time() + self.budget.seconds_left)

    def _move(self, when: float | None) -> None:
        for limit in self._timed:
            if not limit.expired():
                limit.reschedule(when)

    def charge(self, tokens: Tokens, asked: str, model: str, steps: int) -> float | None:
        """Count what a call has used; its USD, None where its price is not known."""
        price = self._prices.of(model, asked)
        if price and price not in (known := self._priced(asked)):
            known.append(price)
            self._known[asked] = known
        if model and model not in self._models:
            self._models.append(model)
        self.budget.charge(tokens, price)
        self.budget.steps += steps
        return price.cost(tokens) if price else None

    def record(self, *exchange: Any, **more: Any) -> None:
        """Have an exchange written, which is said as a Recorder takes it."""
        if self._recorder is not None:
            write = partial(self._recorder.write, *exchange, **more)
            self._unwritten.add(writing := asyncio.ensure_future(self._write(write)))
            writing.add_done_callback(self._unwritten.discard)

    async def _write(self, write: Callable[[], None]) -> None:
        await asyncio.sleep(_MOMENT)
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, write)
        except InfraError as error:  # the disk is full
            self.failure = error

    async def recorded(self, but: int = 0) -> None:
        """Wait until all exchanges are written, but for so many."""
        while len(self._unwritten) > but:
            await asyncio.wait(self._unwritten, return_when=asyncio.FIRST_COMPLETED)

    def told(self) -> dict[str, Any]:
        """What `Spent` is made of, as plain data."""
        budget, failure = self.budget, self.failure
        return {
            "tokens": budget.tokens.__dict__,
            "usd": budget.usd,
            "models": self._models,
            "exchanges": self.exchanges,
            "steps": budget.steps,
            "waited": budget.waited_by_now,
            "stopped": self.stopped,
            "failure": failure and {"kind": failure.kind, "message": failure.message, "remedy": failure.remedy},
        }
