"""Runs one client in an attempt's sandbox to its end or its limit, and says truthfully how that was."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from omniperf.agents.external.stream import Answered, Called, as_record
from omniperf.agents.protocol import Outcome
from omniperf.agents.toolset import Toolset, bounded
from omniperf.errors import InfraError, OmniPerfError
from omniperf.gateway.budget import BudgetExhaustedError, SweepSpentError
from omniperf.gateway.failures import OF_THE_MODEL, from_report
from omniperf.results.events import Event
from omniperf.results.journal import Journal
from omniperf.results.redact import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from omniperf.agents.external.agent import Launch
    from omniperf.agents.external.channel import Channel
    from omniperf.agents.external.stream import Reader, Report, Seen
    from omniperf.agents.protocol import Session
    from omniperf.agents.providers.protocol import ToolCall, ToolResult
    from omniperf.gateway.process import Admission, Spent

_LOOK_SECONDS = 0.25
_LINE = 32 * 2**20  # bytes of one line of output; a longer one is passed over, up to its end
_PIPE = 2**20  # bytes that a pipe can hold
_LOG = 256 * 2**20  # bytes of each raw log
_SILENCE = 300.0  # seconds beyond the longest command after which a silent client counts as stuck
_PATIENCE = 120.0  # seconds in which a client may still mend a call that failed for good, by another kind of call
_END_SECONDS = 15.0
_UNSAID = "(the client ended without saying what came of it)"
_REMEDY = "See logs/agent.stdout and logs/agent.stderr of the attempt."


class _Lines:
    """Cuts what a pipe brings into lines. All of them are kept before the first is read, which may end the attempt."""

    def __init__(self, keep: Callable[[bytes], None], read: Callable[[bytes], None]) -> None:
        self._keep, self._read = keep, read
        self._rest, self._passing = bytearray(), False

    def add(self, data: bytes, *, read: bool = True) -> None:
        """Take in what came; without `read` it is only kept."""
        *whole, rest = data.split(b"\n")
        lines = [line for line in map(self._line, whole) if line is not None]
        self._grow(rest)
        for line in lines:
            self._keep(line)
        for line in lines if read else ():
            self._read(line)

    def end(self, *, read: bool) -> None:
        """Nothing more comes: what has no end of its line is a line too."""
        if self._rest:
            self.add(b"\n", read=read)

    def _line(self, end: bytes) -> bytes | None:
        """The line that ends so; None for one that is passed over."""
        self._grow(end)
        line = None if self._passing else bytes(self._rest)
        self._rest.clear()
        self._passing = False
        return line

    def _grow(self, data: bytes) -> None:
        self._passing = self._passing or len(self._rest) + len(data) > _LINE
        if self._passing:
            self._rest.clear()
        else:
            self._rest += data


class _Log:
    """A raw log, secrets taken out, written while it comes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._room = _LOG
        self.last = ""

    def write(self, line: bytes) -> None:
        text = clean(line.decode("utf-8", "replace"))
        self.last = text.strip() or self.last
        data = text.encode("utf-8", "replace") + b"\n"
        if self._room > 0:
            self._file.write(data[: self._room])
        self._room -= len(data)

    def close(self) -> None:
        self._file.close()


class Run:
    """One client's run."""

    def __init__(self, session: Session, channel: Channel, admission: Admission, reader: Reader) -> None:
        self._session, self._channel, self._admission, self._reader = session, channel, admission, reader
        self._waited = 0.0  # for providers, as far as the budget knows of it
        self._exchanges = 0
        self._failing: float | None = None  # since when the last call to the provider is one that failed for good
        self._active = time.monotonic()
        self._watched: Any = None
        self._open = dict[str, None]()  # calls without a result

    def run(self, launch: Launch, about: dict[str, object]) -> Outcome:
        """Run the client. Raises InfraError where host or provider failed, BudgetExhaustedError at a limit."""
        session, channel = self._session, self._channel
        tools = Toolset(session)

        def use(call: ToolCall) -> ToolResult:
            session.budget.check_time()  # it may have waited for its turn until the minutes were over
            return tools.use(call)

        channel.serve(use)
        logs = session.folder / "logs"
        with ExitStack() as stack:
            self._trajectory = Journal(session.folder / "trajectory.jsonl")
            stack.callback(self._trajectory.close)
            self._trajectory.write("conversation", **about)
            out, self._errors = (_Log(logs / f"agent.{name}") for name in ("stdout", "stderr"))
            stack.callback(out.close)
            stack.callback(self._errors.close)
            lines = {
                "stdout": _Lines(out.write, self._line),
                "stderr": _Lines(self._errors.write, lambda _: None),
                "watch": _Lines(self._watch, self._document),
            }
            pipes = dict[int, _Lines]()
            stack.callback(lambda: _close_all(list(pipes)))
            failure: BaseException | None = None
            try:
                self._drive(launch, lines, pipes)
            except (BudgetExhaustedError, _SilentError, OmniPerfError) as error:
                failure = error
            finally:
                self._end(pipes, read=failure is None)
            for id_ in tuple(self._open):
                self._take([Answered(id_, _UNSAID)])
            session.note_edit()  # of a call that the client never showed
            self._save_watched(logs)
            code = channel.exit_code()
            spent = self._charged(self._admission.close())
            report = self._reader.report
            own = {"tokens": spent.tokens.__dict__, "usd": spent.usd, "models": spent.models}
            self._trajectory.write("ended", exit_code=code, report=report.fields(), gateway=own)
            session.journal.write(
                "client-ended", exit_code=code, turns=report.turns, tools=session.budget.steps, said=report.said,
                client_usd=report.usd, client_models=report.models, denials=report.denials, session=report.session,
            )  # fmt: skip
            if failure is not None and not isinstance(failure, _SilentError):
                raise failure
            return self._outcome(code, spent, report, str(failure) if failure else "")

    def _drive(self, launch: Launch, lines: dict[str, _Lines], pipes: dict[int, _Lines]) -> None:
        """Start it, and take in what comes until nothing more can. `pipes` are where it comes, for the caller."""
        with ExitStack() as stack:
            given = [_input(launch.stdin)]
            stack.callback(_close_all, given)
            for name in ("stdout", "stderr", "watch"):
                read, write = os.pipe()
                os.set_blocking(read, False)
                pipes[read] = lines[name]
                given.append(write)
            config = {"argv": launch.argv, "env": dict(launch.env), "files": dict(launch.files), "watch": launch.watch}
            self._channel.launch(config, given)
            _close_all(given)
            with selectors.DefaultSelector() as waiting:
                for descriptor in pipes:
                    waiting.register(descriptor, selectors.EVENT_READ)
                while waiting.get_map():
                    for key, _ in waiting.select(_LOOK_SECONDS):
                        data = os.read(key.fd, 1 << 16)
                        self._active = time.monotonic()
                        if data:
                            pipes[key.fd].add(data)
                        else:
                            waiting.unregister(key.fd)
                    self._look()

    def _look(self) -> None:
        """Stop at a limit, at an error of a tool, or where nothing has happened for long."""
        if self._channel.error is not None:
            raise self._channel.error
        spent = self._charged(self._admission.spent())
        busy, more = self._channel.busy, spent.exchanges != self._exchanges
        if more or busy:
            self._exchanges, self._active = spent.exchanges, time.monotonic()
        self._check(spent)
        if spent.failure is None:
            self._failing = None
        elif not busy:  # the gateway has tried often enough: a client that goes on trying only passes the time
            self._failing = self._failing or time.monotonic()
            tries_on = more and time.monotonic() - self._failing > _PATIENCE
            if self._session.budget.seconds_left <= 0 or tries_on:
                raise spent.failure
        if not busy:  # a tool has its own limits; none begins once the time is over
            self._session.budget.check_time()
        longest = _SILENCE + self._session.budget.limits.command_seconds
        if time.monotonic() - self._active > longest:
            raise _SilentError(f"it neither said nor asked anything for {longest:.0f} s")

    def _check(self, spent: Spent) -> None:
        if spent.stopped == "minutes" and spent.failure is not None:
            raise spent.failure  # for which the minutes went by
        if spent.stopped == "sweep":
            raise SweepSpentError
        if spent.stopped:
            limits = self._session.budget.limits
            value = {"tokens": limits.tokens, "USD": limits.usd, "steps": limits.steps, "minutes": limits.minutes}
            raise BudgetExhaustedError(spent.stopped, value[spent.stopped])

    def _charged(self, spent: Spent) -> Spent:
        """The gateway's own count is the attempt's."""
        budget, models = self._session.budget, self._session.models
        budget.tokens, budget.usd = spent.tokens, spent.usd
        budget.waited += spent.waited - self._waited
        self._waited = spent.waited
        models += [model for model in spent.models if model not in models]
        return spent

    def _line(self, line: bytes) -> None:
        self._take(self._reader.line(line.decode("utf-8", "replace")))

    def _watch(self, line: bytes) -> None:
        with suppress(ValueError, RecursionError):
            self._watched = json.loads(line)

    def _document(self, _: bytes) -> None:
        with suppress(ValueError, RecursionError):
            self._take(self._reader.document(self._watched))

    def _take(self, found: Iterable[Seen]) -> None:
        session = self._session
        for seen in found:
            kind, line = as_record(seen)
            self._trajectory.write(kind, **line)
            match seen:
                case Called(id_, tool, command, given):
                    self._open[id_] = None
                    session.budget.step()
                    fields = {"command": command} if command else {"input": bounded(json.dumps(given))}
                    session.journal.write("step", step=session.budget.steps, tool=tool, **fields)
                    session.emit(Event("agent", tool, {"step": session.budget.steps, "transient": True}))
                case Answered(id_, exit_code=code, failed=failed):
                    self._open.pop(id_, None)
                    session.journal.write("result", exit_code=code, failed=failed)
                    session.note_edit()

    def _end(self, pipes: dict[int, _Lines], *, read: bool) -> None:
        """End what is left of the client, and of the tools it asked for, and keep what it said last."""
        self._channel.stop()
        if not self._channel.join(_END_SECONDS) and self._session.sandbox is not None:
            self._session.sandbox.close()  # it holds its own launcher up: nothing inside is asked again
            self._channel.join(_END_SECONDS)
        self._channel.settle()
        with suppress(BudgetExhaustedError):
            for descriptor, lines in pipes.items():
                with suppress(BlockingIOError):  # somebody holds it open still
                    for _ in range(_PIPE >> 16):
                        lines.add(os.read(descriptor, 1 << 16), read=read)
                lines.end(read=read)

    def _save_watched(self, logs: Path) -> None:
        if self._watched is not None:
            with suppress(OSError):
                (logs / "agent.json").write_text(clean(json.dumps(self._watched, indent=1)), encoding="utf-8")

    def _outcome(self, code: int | None, spent: Spent, report: Report, silent: str) -> Outcome:
        """What the end means: done only where exit status and stream both say so."""
        if code == 0 and report.ended and report.ok and not silent:
            self._session.tools.finish(report.final)
            return Outcome("finished", exit_code=0)
        self._check(spent)
        said = report.said or self._errors.last
        if spent.failure is not None:
            why = OF_THE_MODEL.get(from_report({"message": str(spent.failure)}).kind)
            if why is None or spent.failure.kind != "protocol":  # what the gateway made of the status holds
                raise spent.failure
            return Outcome("agent_error", f"{why}: {said[:600]}", code)
        stopped = self._channel.completed.stopped_by if self._channel.completed else ""
        if code in (126, 127) and not report.ended and spent.exchanges == 0:
            raise InfraError("missing_dep", f"The client did not start: {said[:600]}", _REMEDY)
        how = silent or (f"it was stopped at the sandbox's {stopped} limit" if stopped else _ending(code, report))
        died_of = signal.Signals(code - 128).name if code and code - 128 in set(signal.Signals) else None
        last = (said.splitlines() or [""])[-1][:600]
        return Outcome("agent_error", f"{how}: {said[:600]}".rstrip(": "), code, died_of, last)


class _SilentError(Exception):
    """Nothing has happened for long."""


def _ending(code: int | None, report: Report) -> str:
    status = "an exit status that nobody saw" if code is None else f"exit status {code}"
    if not report.ended:
        return f"the client ended with {status} and never said that it was done"
    return f"the client ended with {status} and said that it {'is done' if report.ok else 'failed'}"


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _input(text: str) -> int:
    """A file in memory with that text, to be read from its start."""
    descriptor = os.memfd_create("prompt")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode("utf-8", "replace"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
