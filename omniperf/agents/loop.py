"""The agent with a model: prompt -> model -> tool calls -> results -> ..., until it finishes or a limit is reached."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from omniperf.agents.protocol import Outcome
from omniperf.agents.toolset import TOOLS, Toolset
from omniperf.gateway.backoff import as_infra, patiently
from omniperf.gateway.failures import CallError
from omniperf.gateway.tokens import BYTES_PER_TOKEN, Tokens
from omniperf.results.events import Event
from omniperf.results.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from omniperf.agents.protocol import Session
    from omniperf.agents.providers.protocol import Item, Provider, Reply
    from omniperf.gateway.prices import Price, PriceFile

SYSTEM = (
    "You make code faster without changing what it does. You work through tools alone: look at the code and profile it "
    "before you change it, benchmark each change, commit what helps, take back what does not, run the tests, and call "
    "`finish` when you are done. You may call several tools at once where their results do not depend on each other."
)
NUDGE = "You called no tool. Go on with a tool call, or call `finish` if you are done."
CUT = "Your reply was cut off at its longest before it called a tool. Go on, and write less at once."


class Loop:
    """One conversation. Nothing in it walks the history: a step costs the same however many came before."""

    def __init__(
        self, provider: Provider, session: Session, prices: PriceFile, max_output: int, key_variable: str
    ) -> None:
        self._provider, self._session, self._prices = provider, session, prices
        self._max_output, self._key_variable = max_output, key_variable
        self._toolset = Toolset(session)
        self._talk = provider.begin(SYSTEM, TOOLS)
        self._trajectory = Journal(session.folder / "trajectory.jsonl")
        self._new: list[Item] = []  # what the next request adds to those before
        self._known = (Tokens(), 0)  # of the last call, and the bytes that were sent and answered by then
        asked = prices.of(provider.model)
        self._answering = [asked] if asked else []  # the prices of the models that may answer the next call

    def run(self) -> Outcome:
        """Work until the model finishes. Raises BudgetExhaustedError, and InfraError where the provider fails."""
        self._trajectory.write("conversation", model=self._provider.model, system=SYSTEM, tools=[t.name for t in TOOLS])
        self._say([self._provider.say(self._session.prompt)])
        nudged = False
        while True:
            try:
                reply = self._ask()
            except CallError as error:
                if error.kind == "context":
                    return Outcome("agent_error", f"the conversation grew longer than the model takes ({error})")
                raise as_infra(error, self._provider.name, self._provider.model, self._key_variable) from None
            if reply.stop == "refusal":
                return Outcome("agent_error", f"the model refused to go on: {reply.text[:500]}".rstrip(": "))
            results = []
            for call in reply.calls:
                results.append(self._toolset.use(call, cut=reply.stop == "length"))
                if self._toolset.finished:
                    return Outcome("finished")
            if results:
                self._say(self._provider.answer(results))
            elif nudged:
                return Outcome("finished", "the model called no tool twice in a row")
            else:
                self._say([self._provider.say(CUT if reply.stop == "length" else NUDGE)])
            nudged = not results

    def _ask(self) -> Reply:
        """One reply, paid for and kept. Raises CallError and BudgetExhaustedError."""
        budget, started = self._session.budget, time.monotonic()
        tokens, size = self._known
        sent = tokens.total + (len(self._talk) - size) // BYTES_PER_TOKEN + 1

        def call() -> Reply:
            budget.reserve(sent, self._max_output, self._dearest(sent, self._max_output))
            self._trajectory.write("request", items=self._new, bytes=len(self._talk), max_output=self._max_output)
            self._new = []
            return self._provider.send(self._talk, self._max_output, budget.seconds_left)

        reply = patiently(call, lambda error, wait: self._failed(error, wait, sent))
        written = len(str(reply.items).encode("utf-8", "replace"))
        used = reply.tokens or Tokens(sent, output=written // BYTES_PER_TOKEN)
        self._trajectory.write(
            "reply",
            model=reply.model,
            items=reply.items,
            stop=reply.stop,
            seconds=round(time.monotonic() - started, 3),
            tokens=used.__dict__,
            estimated=reply.tokens is None,
        )
        if reply.model and reply.model not in self._session.models:
            self._session.models.append(reply.model)
        price = self._prices.of(reply.model, self._provider.model)
        if price and price not in self._answering:
            self._answering.append(price)
        self._charge(used, price, reply.model or self._provider.model)
        self._talk.add(reply.items)
        self._known = (used, len(self._talk))
        return reply

    def _say(self, items: Iterable[Item]) -> None:
        items = list(items)
        self._new += items
        self._talk.add(items)

    def _dearest(self, sent: int, output: int) -> Price | None:
        """Of the prices that a call of this size may have, the highest, or one that is not known for its length."""

        def most(price: Price) -> float:
            usd = price.most(sent, output)
            return math.inf if usd is None else usd

        return max(self._answering, key=most, default=None)

    def _charge(self, tokens: Tokens, price: Price | None, name: str) -> None:
        """Count a call of the model of that name against the budget."""
        session = self._session
        priced = session.budget.usd is not None
        session.budget.charge(tokens, price)
        if priced and session.budget.usd is None:
            text = f"no price is known for {name} at {tokens.sent:,} tokens: tokens are counted, USD is not"
            session.journal.write("warning", text=text)
            session.emit(Event("agent", text, {}))

    def _failed(self, error: CallError, wait: float, sent: int) -> None:
        """Keep what a failed call was and what it cost. Raises BudgetExhaustedError where the minutes are over.

        A reply that broke off is estimated, so that the reservation of the next try sees it: all that was `sent`, where
        the server had not counted it, and what had streamed, which is no more than was asked for. Time spent waiting
        for a provider is not the agent's.
        """
        fields: dict[str, object] = {"failure": error.kind, "detail": str(error), "wait": round(wait, 3)}
        used = error.tokens
        if used is not None:
            used = replace(used, input=used.input if used.sent else sent, output=min(used.output, self._max_output))
            fields |= {"tokens": used.__dict__, "estimated": True}
        self._trajectory.write("failed", **fields)
        self._session.journal.write("call-failed", **fields)
        if used is not None:
            self._charge(used, self._dearest(used.sent, used.output), self._provider.model)
        self._session.budget.check_time()
        if wait:
            self._session.budget.waited += wait
            self._session.emit(Event("agent", f"waiting {wait:.0f} s for {self._provider.name} ({error.kind})", {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trajectory.close()
        self._provider.close()
