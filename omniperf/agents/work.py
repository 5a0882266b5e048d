"""An agent's work in one workspace, and what is known of it however it ends."""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from omniperf.agents.protocol import Session, ToolError
from omniperf.agents.resume import restore_work
from omniperf.agents.tools import SessionTools
from omniperf.errors import OmniPerfError
from omniperf.gateway.budget import Budget, BudgetExhaustedError
from omniperf.results import schema
from omniperf.verify import scope
from omniperf.workspace.patch import NotCollectableError, collect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.protocol import Agent
    from omniperf.agents.resume import ResumePoint
    from omniperf.gateway.process import Entrance
    from omniperf.measure.bench import Bench
    from omniperf.results.events import Emit
    from omniperf.results.journal import Journal
    from omniperf.verify.preflight import Preflight
    from omniperf.workspace.patch import Patch
    from omniperf.workspace.worktree import Workspace

_HELD_SECRET = schema.Finding(
    id="secret-in-patch",
    severity="warn",
    message="What the agent left holds a key of this process; it is kept, and was measured, with *** in its place.",
    remedy="Use another sandbox than `none`, and give that key back.",
)
_LONGEST = 2000  # characters of an agent's own error that go into the result; the journal has all


@dataclass(frozen=True)
class Choice:
    """The patch to confirm, the other one where there are two, which of them is confirmed, and what to say of it."""

    patch: Patch
    other: Patch | None
    source: Literal["final", "best"]
    findings: tuple[schema.Finding, ...] = ()


class Work:
    """One agent on one task once: run it, then ask what it came to, which is known even where it was cut short."""

    def __init__(
        self, bench: Bench, proved: Preflight, limits: Mapping[str, float], journal: Journal, emit: Emit,
        gateway: Entrance | None = None,
    ) -> None:  # fmt: skip
        """`limits` are those that hold instead of the task's; `gateway` is the run's."""
        self._bench, self._proved, self._journal, self._emit = bench, proved, journal, emit
        self._gateway = gateway
        limited = bench.task.limits.model_copy(update=dict(limits))
        self._budget = Budget(limited, gateway.shared if gateway else None)
        self._tools: SessionTools | None = None
        self.best: Patch | None = None  # that was screened, however the work ended
        self._models: list[str] = []

    def run(
        self, agent: Agent, workspace: Workspace, prompt: str, options: Mapping[str, str],
        point: ResumePoint | None = None,
    ) -> schema.Outcome:  # fmt: skip
        """Let the agent work, from `point` on. Its own failures are an outcome; the host's are raised."""
        bench, journal = self._bench, self._journal
        self._budget.started = time.monotonic()  # making the workspace was not the agent's time
        equipped = getattr(agent, "equipped", None)
        with SessionTools(bench, workspace, self._proved, self._budget, journal, self._emit, equipped) as tools:
            self._tools = tools
            if point is not None:
                restore_work(point, workspace, tools)
            reference = bench.human_patch() if getattr(agent, "needs_reference", False) else None
            session = Session(
                bench.task, prompt, workspace, tools, self._budget, journal, options, reference, self._emit,
                models=self._models, resume=point, sandbox=tools.sandbox, note_edit=tools.note_edit,
                gateway=self._gateway,
            )  # fmt: skip
            kind: schema.OutcomeKind
            ended = None
            try:
                ended = agent.solve(session)
                kind, detail = ended.kind, ended.detail
            except BudgetExhaustedError as error:
                kind, detail = "budget", str(error)
            except OmniPerfError:  # of the host's or a provider's doing: what was screened is kept all the same
                with suppress(OmniPerfError, ToolError, BudgetExhaustedError):
                    self.best = tools.best()
                raise
            except (Exception, SystemExit) as error:  # the harness does not end because an agent asks Python to
                journal.write("agent-traceback", text=traceback.format_exc())
                kind, detail = "agent_error", f"{type(error).__name__}: {error}"[:_LONGEST]
            with suppress(OmniPerfError, ToolError, BudgetExhaustedError):  # what cannot be asked takes only this away
                self.best = tools.best()
                if self.best is not None:
                    tools.screen_final(self.best)
        finished = tools.finished is not None
        if ended is None:
            return schema.Outcome(kind=kind, detail=detail, finish_called=finished)
        return schema.Outcome(
            kind=kind, detail=detail, finish_called=finished,
            exit_code=ended.exit_code, signal=ended.signal, evidence=ended.evidence,
        )  # fmt: skip

    @property
    def model(self) -> str | None:
        """The model that said it answered; several where it changed under way."""
        return ", ".join(self._models) or None

    def choose(self, workspace: Workspace) -> Choice:
        """Collect the final state, and choose between it and the best.

        Raises NotCollectableError where there is neither, InfraError where the disk is full.
        """
        best = self.best
        try:
            final = collect(workspace, final=True)
        except NotCollectableError as error:
            if best is None:
                raise
            return Choice(best, None, "best", (_of_the_final("not-collected", str(error)),))
        held = (_HELD_SECRET,) if final.held_secret or (best is not None and best.held_secret) else ()
        if self._tools is None or best is None or best.tree == final.tree:
            return Choice(final, None, "final", held)
        if not self._tools.ratchet.prefers(best, final):
            return Choice(final, best, "final", held)
        found = scope.findings(final, self._bench.task)
        said = tuple(_of_the_final(finding.id, finding.message, finding.evidence) for finding in found)
        return Choice(best, final, "best", (*said, *held))

    def usage(self, wall_seconds: float, verdict: schema.Verdict) -> schema.Usage:
        """What was used, the verdict's own device time included."""
        tokens, tools = self._budget.tokens, self._tools
        return schema.Usage(
            steps=self._budget.steps,
            input_tokens=tokens.sent,
            output_tokens=tokens.output,
            cached_tokens=tokens.cache_read,
            cache_write_tokens=tokens.cache_write,
            usd=self._budget.usd,
            wall_seconds=wall_seconds,
            device_seconds=(tools.device_seconds if tools else 0.0) + verdict.cost.lane_seconds,
            seconds_to_first_edit=tools.first_edit if tools else None,
            seconds_to_first_gain=tools.first_gain if tools else None,
        )


def _of_the_final(id_: str, message: str, evidence: str = "") -> schema.Finding:
    """A finding about the final state where the best is confirmed: it decides nothing, and is not lost."""
    where = "in the final state, which is not what was measured"
    return schema.Finding(
        id=id_,
        severity="warn",
        message=message,
        evidence=f"{where}: {evidence}" if evidence else where,
        remedy="Read model_patch.final.diff." if evidence else "",
    )
