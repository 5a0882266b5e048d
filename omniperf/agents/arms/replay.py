"""The control arm `replay`: a recorded attempt of a built-in agent or of a client, once more, with no model.

The model's replies and the results of benchmark, test and profile come from the recording; commands, edits and commits
are made, and a client runs. What comes out must be what came out then: each request is compared when it is made, and at
the end the trajectory, line by line, and the patch. The limits are the recorded ones. The clock's readings alone are
taken over from the recording, and with them what holds no more than ids, dates, times and durations
(`gateway/recording.py` says what these are).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.agents.discover import load_agent
from omniperf.agents.external.agent import ExternalAgent
from omniperf.agents.models import ModelAgent
from omniperf.agents.protocol import Outcome, ToolError
from omniperf.agents.providers.tape import DivergedError, Playback
from omniperf.agents.recorded import Recorded, RecordedClock, RecordedShared
from omniperf.agents.tools import SessionTools
from omniperf.errors import InfraError, OmniPerfError, UsageError
from omniperf.gateway.budget import BudgetExhaustedError
from omniperf.gateway.recording import EXCHANGES, difference, load_exchanges
from omniperf.prompt.history import with_history
from omniperf.prompt.render import Prompt
from omniperf.results.start import parent_patch, read_start
from omniperf.results.store import read_lines, write_whole
from omniperf.workspace.patch import NotCollectableError, collect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from omniperf.agents.protocol import Session
    from omniperf.sandbox.spec import Spec
    from omniperf.tasks.schema import Task

TRAJECTORY = "trajectory.jsonl"
DIVERGED = "the replay diverged"
"""The detail of the outcome of one that was not as its recording begins so."""

_CLOCK = {"t", "seconds", "wait"}


class ReplayAgent:
    """Runs a recorded attempt again, and says where it differs."""

    version = "1"
    summary = "a recorded attempt of a built-in agent or a client again, with no model (--from FOLDER)"
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
        if recorded.limits is not None:
            session.budget.limits = recorded.limits
        if (start := read_start(folder)) is not None:
            session = replace(session, prompt=with_history(Prompt(session.prompt, "", ""), start).text)
            if start.parent is not None:
                session.workspace.apply(parent_patch(folder, folder.name.rpartition(".")[0], start))
        ended: Outcome | Exception
        try:
            ended = _again(session, self.client or agent, recorded, folder)
        except DivergedError as error:
            return Outcome("agent_error", f"{DIVERGED}: {error}")
        except Exception as error:  # a limit or a failure, where the attempt ended too
            ended = error
        if isinstance(ended, InfraError) and recorded.source:  # this host's, for the recording had none
            raise ended
        if apart := _take_clock(session.folder, folder) or _other_patch(session, recorded, folder):
            end = f" (it ended with: {ended})" if isinstance(ended, Exception) else ""
            return Outcome("agent_error", f"{DIVERGED}: {apart}{end}")
        if isinstance(ended, Exception):
            raise ended
        return ended


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
        # Nothing is paid for, so no sweep's USD are used.
        session.budget.shared = RecordedShared(playback) if recorded.out_of_sweep else None
        try:
            return agent.again(session, recorded.options, playback)
        except DivergedError:
            if recorded.out_of_minutes and playback.left < 0:
                raise BudgetExhaustedError("minutes", session.budget.limits.minutes) from None
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
        raise BudgetExhaustedError("minutes", session.budget.limits.minutes)
    if asked > there:
        raise DivergedError(f"exchange {there + 1}: the recording has {there} alone")


def _load(options: Mapping[str, str]) -> tuple[Path, ModelAgent | ExternalAgent, Recorded]:
    if not (name := options.get("from", "")):
        raise UsageError(
            "The agent `replay` was given no attempt.",
            "Name its folder with --from, or `options: {from: FOLDER}` in a sweep file.",
        )
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


def _other_patch(session: Session, recorded: Recorded, folder: Path) -> str:
    """Say which patch is not the one that was collected then: of the final state, or of the best where it differs."""
    if not recorded.source:
        return ""
    assert isinstance(session.tools, SessionTools)
    then = {recorded.source: recorded.sha256}
    other = "best" if recorded.source == "final" else "final"
    if (file := folder / f"model_patch.{other}.diff").is_file():
        then[other] = hashlib.sha256(file.read_bytes()).hexdigest()
    now, best, final = {}, None, None
    with suppress(OmniPerfError, ToolError, BudgetExhaustedError):  # as where an attempt's patch is chosen
        best = session.tools.best()
    with suppress(NotCollectableError):
        final = collect(session.workspace, final=True)
        now["final"] = final.sha256
    if best is not None and (final is None or best.tree != final.tree):
        now["best"] = best.sha256
    apart = [name for name in ("final", "best") if then.get(name) != now.get(name)]
    return f"the patch of the {' and the '.join(apart)} state is another one" if apart else ""


def _timeless(line: dict[str, Any] | None) -> dict[str, Any] | None:
    return line and {name: value for name, value in line.items() if name not in _CLOCK}
