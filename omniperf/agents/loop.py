"""The agent with a model: prompt -> model -> tool calls -> results -> ..., until it finishes or a limit is reached."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from omniperf.agents.history import History
from omniperf.agents.nudges import Nudges
from omniperf.agents.protocol import Outcome
from omniperf.agents.providers.protocol import Reply, ToolCall, ToolResult, as_object
from omniperf.agents.snapshots import FOLDER, Snapshots
from omniperf.agents.toolset import Toolset, offered
from omniperf.gateway.backoff import as_infra, patiently
from omniperf.gateway.failures import OF_THE_MODEL, CallError, window_said
from omniperf.gateway.tokens import BYTES_PER_TOKEN, Tokens
from omniperf.results.events import Event
from omniperf.results.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from omniperf.agents.history import Cut
    from omniperf.agents.protocol import Session
    from omniperf.agents.providers.protocol import Item, Provider
    from omniperf.agents.resume import ResumePoint
    from omniperf.gateway.backoff import Pause
    from omniperf.gateway.prices import Price, PriceFile

SYSTEM = (
    "You make code faster without changing what it does. You work through tools alone: look at the code and profile it "
    "before you change it, benchmark each change, commit what helps, take back what does not, run the tests, and call "
    "`finish` when you are done. You may call several tools at once where their results do not depend on each other."
)
NUDGE = "You called no tool. Go on with a tool call, or call `finish` if you are done."
CUT = "Your reply was cut off at its longest before it called a tool. Go on, and write less at once."


AFTER = "Nothing was done: you had called `finish` before."


@dataclass(frozen=True)
class Manner:
    """How the model is to be asked: its longest reply and its window in tokens (None: not known), and which tools."""

    max_output: int
    window: int | None = None
    native: str = ""


class Loop:
    """One conversation. A step costs the same however many came before.

    Nothing walks the history, but for what makes room where it nears the model's window, and that frees half.
    """

    def __init__(
        self, provider: Provider, session: Session, prices: PriceFile, manner: Manner, key_variable: str,
        pause: Pause | None = None,
    ) -> None:  # fmt: skip
        self._provider, self._session, self._prices = provider, session, prices
        self._key_variable, self._pause = key_variable, pause
        tools = offered(manner.native)
        self._tools = [tool.name for tool in tools]
        self._toolset, self._nudges = Toolset(session, tools), Nudges(session)
        # Of each attempt its own, since a server takes only so many requests of one key; the same in every run.
        key = hashlib.sha256(f"{session.folder.name}\n{session.prompt}".encode("utf-8", "replace")).hexdigest()[:32]
        self._history = History(provider, SYSTEM, tools, key)
        self._snapshots = Snapshots(session.workspace.tree, session.folder / FOLDER)
        self._trajectory = Journal(session.folder / "trajectory.jsonl")
        self._dirty = False  # whether a call since the last snapshot may have changed the tree
        self._new: list[Item] = []  # what the next request adds to those before
        self._made_room: dict[str, dict[str, int]] = {}  # how the conversation was cut since
        self._known = (Tokens(), 0)  # of the last call, and the bytes that were sent and answered by then
        asked = prices.of(provider.model)
        self._answering = [asked] if asked else []  # the prices of the models that may answer the next call
        self._max_output = manner.max_output
        self._window: int | None = None
        self._learn(manner.window or (asked.window if asked else None))

    def run(self) -> Outcome:
        """Work until the model finishes. Raises BudgetExhaustedError, and InfraError where the provider fails."""
        point, silent = self._session.resume, False
        reply: Reply | None = None
        if point is None:
            self._trajectory.write("conversation", model=self._provider.model, system=SYSTEM, tools=self._tools)
            self._say([self._provider.say(self._session.prompt)])
        else:
            self._trajectory.write("resumed", records=len(point.records))
            reply, silent = self._resume(point)
        while True:
            try:
                reply = reply or self._ask()
            except CallError as error:
                if error.kind in OF_THE_MODEL:
                    return Outcome("agent_error", f"{OF_THE_MODEL[error.kind]} ({error})")
                raise as_infra(error, self._provider.name, self._provider.model, self._key_variable) from None
            if reply.stop == "refusal":
                return Outcome("agent_error", f"the model refused to go on: {reply.text[:500]}".rstrip(": "))
            if results := [self._use(call, cut=reply.stop == "length") for call in reply.calls]:
                if not self._toolset.finished:
                    results[-1] = replace(results[-1], text=results[-1].text + self._nudges.note())
                said = self._provider.answer(results)
            elif silent:
                return Outcome("finished", "the model called no tool twice in a row")
            else:
                words = CUT if reply.stop == "length" else f"{NUDGE} {self._nudges.unmeasured()}".rstrip()
                said = [self._provider.say(words)]
            if self._toolset.finished:
                self._trajectory.write("finished", items=said)
                return Outcome("finished")
            self._say(said)
            silent, reply = not results, None

    def _use(self, call: ToolCall, *, cut: bool) -> ToolResult:
        """Do one call, and keep what of it must be known to resume."""
        if self._toolset.finished:
            return ToolResult(call.id, AFTER, failed=True)
        if call.name == "finish" and (why := self._nudges.unmeasured()):
            return ToolResult(call.id, why, failed=True)
        result = self._toolset.use(call, cut=cut)
        self._dirty = self._dirty or self._toolset.changed
        if self._toolset.changed and not result.failed and call.name != "bash":
            self._nudges.edited()
        if done := self._toolset.done:
            if "screened" in done:
                self._nudges.measured()
            self._snapshot()
            self._trajectory.write("done", **done)
        return result

    def _snapshot(self) -> None:
        """Keep what changed in the tree. Where that cannot be kept, nothing later can be resumed, and it says so."""
        dirty, self._dirty = self._dirty, False
        if dirty and ((delta := self._snapshots.take()) is None or delta):
            self._trajectory.write("tree", changed=delta)

    def _ask(self) -> Reply:
        """One reply, paid for and kept. Raises CallError and BudgetExhaustedError."""
        room = self._room()
        if room is not None and self._sent() > room:
            self._make_room(room // 2)
        self._snapshot()
        try:
            return self._exchange()
        except CallError as error:
            if error.kind != "context" or not self._too_long(error):
                raise
            return self._exchange()

    def _exchange(self) -> Reply:
        """One reply, as the conversation is. Raises CallError and BudgetExhaustedError."""
        budget, started, talk = self._session.budget, time.monotonic(), self._history.talk
        sent = self._sent()

        def call() -> Reply:
            held.enter_context(budget.holding(sent, self._max_output, self._dearest(sent, self._max_output)))
            self._trajectory.write(
                "request",
                items=self._new,
                bytes=len(talk),
                max_output=self._max_output,
                steps=budget.steps,
                seconds=round(budget.limits.minutes * 60 - budget.seconds_left, 3),
                nudges=self._nudges.state,
                **self._made_room,
            )
            self._new, self._made_room = [], {}
            return self._provider.send(talk, self._max_output, budget.seconds_left)

        def failed(error: CallError, wait: float) -> None:
            self._failed(error, wait, sent)
            held.close()

        with ExitStack() as held:  # until it is charged
            reply = patiently(call, failed, pause=self._pause, wait=self._wait)
            written = len(str(reply.items).encode("utf-8", "replace"))
            used = reply.tokens or Tokens(sent, output=written // BYTES_PER_TOKEN)
            malformed = {call.id: call.arguments for call in reply.calls if as_object(call.arguments) is None}
            self._trajectory.write(
                "reply",
                model=reply.model,
                items=reply.items,
                stop=reply.stop,
                seconds=round(time.monotonic() - started, 3),
                tokens=used.__dict__,
                estimated=reply.tokens is None,
                **({"malformed": malformed} if malformed else {}),
                **({"text": reply.text} if reply.stop == "refusal" else {}),
            )
            self._paid(reply.items, used, reply.model)
        return reply

    def _paid(self, items: tuple[Item, ...], used: Tokens, model: str) -> None:
        """Count a reply, and append it."""
        if model and model not in self._session.models:
            self._session.models.append(model)
        price = self._prices.of(model, self._provider.model)
        if price and price not in self._answering:
            self._answering.append(price)
        self._charge(used, price, model or self._provider.model)
        self._history.reply(items)
        self._known = (used, len(self._history.talk))

    def _say(self, items: Iterable[Item]) -> None:
        items = list(items)
        self._new += items
        self._history.say(items)

    def _sent(self) -> int:
        """The tokens of the next request: what the last call counted, and an estimate of what is new."""
        tokens, size = self._known
        return tokens.total + (len(self._history.talk) - size) // BYTES_PER_TOKEN + 1

    def _room(self) -> int | None:
        """The longest request that may be made, in tokens: its reply must fit beside it, its price must be known."""
        longest = [price.longest for price in self._answering if price.longest]
        if self._window is not None:
            longest.append(self._window - self._max_output)
        return min(longest, default=None)

    def _learn(self, window: int | None) -> None:
        """Take the model's window to be no larger; a reply gets no more than a quarter of it."""
        if window is not None:
            self._window = min(self._window or window, window)
            self._max_output = min(self._max_output, max(1, self._window // 4))

    def _too_long(self, error: CallError) -> bool:
        """Make room after a server refused a request for its length. Whether there was any to make."""
        sent = self._sent()
        # Its own length is estimated, so a tenth of it is left for the error.
        self._learn(window_said(str(error)) or sent * 9 // 10 + self._max_output)
        self._trajectory.write("window", tokens=self._window)
        return self._make_room(min(self._room() or sent, sent) // 2)

    def _make_room(self, tokens: int) -> bool:
        """Cut the conversation to about so many tokens. Whether anything could go."""
        size = int(len(self._history.talk) * min(1.0, tokens / self._sent()))
        if (cut := self._cut(size)) is None:
            return False
        self._made_room = {"cut": {"size": size, "elided": cut.elided, "folded": cut.folded}}
        return True

    def _cut(self, size: int) -> Cut | None:
        sent, before = self._sent(), len(self._history.talk)
        if (cut := self._history.cut(size)) is not None:
            self._known = (Tokens(input=max(1, sent * cut.bytes // before)), cut.bytes)
        return cut

    def _resume(self, point: ResumePoint) -> tuple[Reply | None, bool]:
        """Do again what the records say, but for the calls.

        Returns the reply that waits for its results, and whether the one before it called nothing.
        """
        budget, silent, reply = self._session.budget, False, None
        shared, budget.shared = budget.shared, None  # what an earlier process spent has been counted
        for record in point.records:
            match record["kind"]:
                case "request":
                    if record["items"]:
                        self._history.say(record["items"])
                    budget.steps = record["steps"]
                    budget.started, budget.waited = time.monotonic() - record["seconds"], 0.0
                    self._nudges.resume(record["nudges"])
                    silent = reply is not None and not reply.calls if record["items"] else silent
                    if "cut" in record:
                        self._cut(record["cut"]["size"])
                case "reply":
                    reply = _reply_of(record, self._provider)
                    self._provider.ids.update(call.id for call in reply.calls)
                    self._paid(reply.items, reply.tokens or Tokens(), reply.model)
                case "failed" if "tokens" in record:
                    used = Tokens(**record["tokens"])
                    self._charge(used, self._dearest(used.sent, used.output), self._provider.model)
                case "window":
                    self._learn(record["tokens"])
        budget.shared = shared
        return (reply if point.waits else None), silent

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
            self._session.emit(Event("agent", f"waiting {wait:.0f} s for {self._provider.name} ({error.kind})", {}))

    def _wait(self, seconds: float) -> None:
        with self._session.budget.waiting():
            time.sleep(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trajectory.close()
        self._provider.close()


def _reply_of(record: dict[str, Any], provider: Provider) -> Reply:
    """A reply as it was; its text is kept where it is read, which is a refusal's."""
    malformed, items = record.get("malformed", {}), tuple(record["items"])
    calls = tuple(replace(call, arguments=malformed.get(call.id, call.arguments)) for call in provider.calls(items))
    return Reply(items, record.get("text", ""), calls, record["stop"], Tokens(**record["tokens"]), record["model"])
