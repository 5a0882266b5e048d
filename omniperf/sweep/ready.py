"""What must hold before an attempt is made: the agent, the task, its prompt and base are looked at once for many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.agents.discover import load_agent
from omniperf.agents.preflight import check_options
from omniperf.errors import UsageError
from omniperf.measure.bench import open_bench
from omniperf.prompt.render import render
from omniperf.results.events import Event
from omniperf.verify.leaks import check_of, refuse
from omniperf.verify.preflight import preflight

if TYPE_CHECKING:
    from omniperf.gateway.process import Entrance
    from omniperf.measure.bench import Bench
    from omniperf.prompt.render import Prompt
    from omniperf.record import AttemptSpec
    from omniperf.results.events import Emit
    from omniperf.results.schema import PromptCheck
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from omniperf.verify.preflight import Preflight


@dataclass(frozen=True)
class Ready:
    """A task, opened and proved, with the prompt that its agents get."""

    bench: Bench
    prompt: Prompt
    checked: PromptCheck
    proved: Preflight


def check_agent(spec: AttemptSpec) -> None:
    """Check an agent and its options, as far as that costs nothing. Raises UsageError and InfraError."""
    check_options(load_agent(spec.agent), spec.agent, spec.options)


def make_ready(task: Task, spec: AttemptSpec, settings: Settings, emit: Emit) -> Ready:
    """Open a task, render and check its prompt, and prove base.

    Raises UsageError or InfraError where the task or the host cannot run, PromptBlockedError where the prompt gives the
    solution away or is about another repository, unless `spec.allow_leak`.
    """
    # The bundled quickstart runs our own code on our own library: the one case that may go without walls by itself.
    ours = task.id == "quickstart" and spec.agent == "pattern"
    emit(Event("preflight", f"{task.id}: repository, base, environment", {}))
    bench = open_bench(task, settings, emit, may_fall_back=ours)
    prompt = render(task, spec.template, hints=spec.hints, workspace=bench.tree_seen)
    checked = check_of(task, prompt, bench.source, settings)
    if not spec.allow_leak:
        refuse(task, prompt, checked)
    return Ready(bench, prompt, checked, preflight(bench, emit))


def check_agent_on(bench: Bench, spec: AttemptSpec, emit: Emit, gateway: Entrance) -> None:
    """Check that an agent can work here. It may spend a little, so it comes last. Raises UsageError and InfraError."""
    agent = load_agent(spec.agent, spec.options)
    if getattr(agent, "needs_reference", False) and bench.human_patch() is None:
        raise UsageError(
            f"Task {bench.task.id} has no human patch for the agent {spec.agent!r}.",
            "Give `repo.human` or `human_patch`.",
        )
    if getattr(agent, "needs_walls", False) and not bench.backend.isolated:
        raise UsageError(f"The agent {spec.agent!r} runs in a sandbox alone.", "Use `--sandbox bubblewrap`.")
    if (ready := getattr(agent, "ready", None)) is not None:
        ready(spec.options, emit, gateway)
