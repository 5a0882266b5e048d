"""The control arm `replay`: a recorded attempt of a built-in agent or of a client, once more, with no model.

The model's replies and the results of benchmark, test and profile come from the recording; commands, edits and commits
are made, and a client runs. What comes out must be what came out then: each request is compared when it is made, and
the trajectory line by line at the end. The clock's readings alone are taken over from the recording, and with them what
holds no more than ids, dates, times and durations (`gateway/recording.py` says what these are).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.agents.discover import load_agent
from omniperf.agents.external.agent import ExternalAgent
from omniperf.agents.models import ModelAgent
from omniperf.agents.protocol import Outcome
from omniperf.agents.providers.tape import DivergedError, Playback
from omniperf.agents.recorded import Recorded, RecordedClock
from omniperf.agents.tools import SessionTools
from omniperf.errors import OmniPerfError, UsageError
from omniperf.gateway.budget import BudgetExhaustedError
from omniperf.gateway.recording import EXCHANGES, difference, load_exchanges
from omniperf.prompt.history import with_history
from omniperf.prompt.render import Prompt
from omniperf.results.start import parent_patch, read_start
from omniperf.results.store import read_lines, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from omniperf.agents.protocol import Session
    from omniperf.sandbox.spec import Spec
    from omniperf.tasks.schema import Task

TRAJECTORY = "trajectory.jsonl"
_CLOCK = {"t", "seconds", "wait"}


class ReplayAgent:
    """Runs a recorded attempt again, and says where it differs."""

    version = "1"
    summary = "a recorded attempt of a built-in agent or a client again, with no model (option from=FOLDER)"
    options = ("from",)
    client: ExternalAgent | None = None
    refines = False

    def check(self, options: Mapping[str, str]) -> None:
        """Read the recording. Raises UsageError where there is none that can be replayed."""
        folder, agent, _ = _load(options)
        if isinstance(agent, ExternalAgent):
            load_exchanges(folder / EXCHANGES)
            agent.find()
        else:
            Playback(folder)

    def stands_for(self, options: Mapping[str, str]) -> ReplayAgent:
        """Itself, or one that has the recorded client in its sandbox."""
        _, agent, _ = _load(options)
        return ReplayedClient(agent) if isinstance(agent, ExternalAgent) else self

    def solve(self, session: Session) -> Outcome:
        """Do again what was done."""
        folder, agent, recorded = _load(session.options)
        assert isinstance(session.tools, SessionTools)
        session.tools.recorded = recorded
        if (start := read_start(folder)) is not None:
            session = replace(session, prompt=with_history(Prompt(session.prompt, "", ""), start).text)
            if start.parent is not None:
                session.workspace.apply(parent_patch(folder, folder.name.rpartition(".")[0], start))
        try:
            outcome = _again(session, self.client or agent, recorded, folder)
        except DivergedError as error:
            return Outcome("agent_error", f"the replay diverged: {error}")
        except Exception:  # a limit or a failure, where the attempt ended too
            _take_clock(session.folder, folder)
            raise
        apart = _take_clock(session.folder, folder)
        return Outcome("agent_error", f"the replay diverged: {apart}") if apart else outcome


class ReplayedClient(ReplayAgent):
    """Runs the client of a recorded attempt again."""

    needs_walls = True

    def __init__(self, client: ExternalAgent) -> None:
        self.client: ExternalAgent = client

    def equipped(self, spec: Spec, task: Task) -> AbstractContextManager[Spec]:
        """The sandbox with the client in it."""
        return self.client.equipped(spec, task)


def _again(session: Session, agent: ModelAgent | ExternalAgent, recorded: Recorded, folder: Path) -> Outcome:
    """The work itself, of a client whatever it makes of a reply that it does not get. Raises DivergedError."""
    if isinstance(agent, ModelAgent):
        clock = RecordedClock(folder, session.budget, over=recorded.out_of_minutes)
        playback = Playback(folder, clock.passed)
        session.budget.clock, session.journal.heard = clock, clock.passed
        try:
            return agent.again(session, recorded.options, playback)
        except DivergedError:
            if recorded.out_of_minutes and playback.ended:
                raise BudgetExhaustedError("minutes", session.task.limits.minutes) from None
            raise
    there = len(load_exchanges(folder / EXCHANGES))
    try:
        outcome = agent.again(session, recorded.options, folder / EXCHANGES)
    except (OmniPerfError, BudgetExhaustedError):
        _compare(session, there, recorded)
        raise
    _compare(session, there, recorded)
    return outcome


def _compare(session: Session, there: int, recorded: Recorded) -> None:
    """Raise DivergedError where the client did not ask what is recorded, no more and no less.

    One whose minutes were over then, and who has asked all there is, has come to the same end: BudgetExhaustedError.
    """
    asked = 0
    for line in read_lines(session.folder / EXCHANGES):
        asked = max(asked, int(line["n"]))
        said = str(line["error"])
        if "differs from the recorded one" in said:
            raise DivergedError(said)
    if asked < there:
        raise DivergedError(f"exchange {asked + 1} of {there} was not asked for")
    if recorded.out_of_minutes:
        raise BudgetExhaustedError("minutes", session.task.limits.minutes)
    if asked > there:
        raise DivergedError(f"exchange {there + 1}: the recording has {there} alone")


def _load(options: Mapping[str, str]) -> tuple[Path, ModelAgent | ExternalAgent, Recorded]:
    if not (name := options.get("from", "")):
        raise UsageError("The agent `replay` was given no attempt.", "Name its folder with the option from=FOLDER.")
    folder = Path(name)
    try:
        recorded = Recorded(folder)
    except (OmniPerfError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"The journal of {folder} cannot be read: {error}.", "Name an attempt's folder.") from None
    agent = load_agent(recorded.agent) if recorded.agent else None
    if not isinstance(agent, ModelAgent | ExternalAgent) or "model" not in recorded.options:
        what = f"an attempt of the agent {recorded.agent!r}" if recorded.agent else "no attempt"
        raise UsageError(f"{folder} is {what}.", "Attempts of agents with a model can be replayed.")
    return folder, agent, recorded


def _take_clock(now: Path, then: Path) -> str:
    """Give the new trajectory the recorded clock; where a line differs in more, leave it, and say where."""
    pairs = zip_longest(read_lines(then / TRAJECTORY), read_lines(now / TRAJECTORY))
    for number, (was, is_) in enumerate(pairs, 1):
        if apart := difference(_timeless(was), _timeless(is_)):
            return f"line {number} of {TRAJECTORY} differs at {apart}"
    write_whole(now / TRAJECTORY, (then / TRAJECTORY).read_bytes(), exact=True)
    return ""


def _timeless(line: dict[str, Any] | None) -> dict[str, Any] | None:
    return line and {name: value for name, value in line.items() if name not in _CLOCK}
