"""The agent with a model: prompt -> model -> tool calls -> results -> ..., until it finishes or a limit is reached."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from omniperf.agents.protocol import Outcome
from omniperf.agents.providers.backoff import as_infra, patiently
from omniperf.agents.providers.protocol import CallError, Tokens
from omniperf.agents.toolset import TOOLS, Toolset
from omniperf.results.events import Event
from omniperf.results.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from omniperf.agents.prices import PriceFile
    from omniperf.agents.protocol import Session
    from omniperf.agents.providers.protocol import Item, Provider, Reply

SYSTEM = (
    "You make code faster without changing what it does. You work through tools alone: look at the code and profile it "
    "before you change it, benchmark each change, commit what helps, take back what does not, run the tests, and call "
    "`finish` when you are done. You may call several tools at once where their results do not depend on each other."
)
NUDGE = "You called no tool. Go on with a tool call, or call `finish` if you are done."
CUT = "Your reply was cut off at its longest before it called a tool. Go on, and write less at once."

_BYTES_PER_TOKEN = 3  # of JSON that was not sent before; an estimate on the safe side for code and English


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
        self._price = prices.of(provider.model)

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
        sent = tokens.total + (len(self._talk) - size) // _BYTES_PER_TOKEN + 1

        def call() -> Reply:
            budget.reserve(sent, self._max_output, self._price)
            self._trajectory.write("request", items=self._new, bytes=len(self._talk), max_output=self._max_output)
            self._new = []
            return self._provider.send(self._talk, self._max_output, max(1.0, budget.seconds_left))

        reply = patiently(call, lambda: budget.seconds_left, self._failed)
        used = reply.tokens or Tokens(sent, output=len(str(reply.items)) // _BYTES_PER_TOKEN)
        self._trajectory.write(
            "reply",
            model=reply.model,
            items=reply.items,
            stop=reply.stop,
            seconds=round(time.monotonic() - started, 3),
            tokens=used.__dict__,
            estimated=reply.tokens is None,
        )
        self._charge(used, reply.model)
        self._talk.add(reply.items)
        self._known = (used, len(self._talk))
        return reply

    def _say(self, items: Iterable[Item]) -> None:
        items = list(items)
        self._new += items
        self._talk.add(items)

    def _charge(self, tokens: Tokens, model: str) -> None:
        """Count a call against the budget, at the price of the model that says it answered."""
        session = self._session
        if model and model not in session.models:
            session.models.append(model)
            self._price = self._prices.of(model, self._provider.model)
        priced = session.budget.usd is not None
        session.budget.charge(tokens, self._price)
        if priced and session.budget.usd is None:
            name = model or self._provider.model
            text = f"no price is known for {name} at {tokens.sent:,} tokens: tokens are counted, USD is not"
            session.journal.write("warning", text=text)
            session.emit(Event("agent", text, {}))

    def _failed(self, error: CallError, wait: float) -> None:
        """Keep what a failed call was; time spent waiting for a provider is not the agent's."""
        fields = {"failure": error.kind, "detail": str(error), "wait": round(wait, 3)}
        self._trajectory.write("failed", **fields)
        self._session.journal.write("call-failed", **fields)
        if error.tokens is not None:
            self._charge(error.tokens, "")
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
