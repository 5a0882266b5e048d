"""The record of an attempt: what was asked, and everything that is known when it has ended (`omniperf/result/v1`)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import omniperf
from omniperf.results import schema
from omniperf.tasks.load import task_sha256
from omniperf.verify import scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.protocol import Agent
    from omniperf.measure.bench import Bench
    from omniperf.prompt.render import Prompt
    from omniperf.tasks.schema import Task
    from omniperf.workspace.patch import Patch

PATHS = ("file", "prices", "from")
"""Options that name a file of the host, which is no content."""


@dataclass(frozen=True)
class AttemptSpec:
    """What distinguishes one attempt from another. Plain data."""

    run_id: str
    agent: str
    n: int
    options: Mapping[str, str] = field(default_factory=dict)
    label: str = ""  # what its attempts are called; the agent's name, where none is given
    limits: Mapping[str, float] = field(default_factory=dict)  # instead of the task's
    verify: bool = True
    template: str = "optimize"
    hints: bool = True
    claims: int = 1  # attempts on the task that share the alpha of a claim
    versus_human: bool = False
    keep_workspace: bool = False
    allow_leak: bool = False
    prompt_check: schema.PromptCheck | None = None
    start: schema.Start | None = None  # of an attempt of a chain

    @property
    def name(self) -> str:
        """The label, or the agent's name."""
        return self.label or self.agent


def make_result(
    bench: Bench, spec: AttemptSpec, agent: Agent, prompt: Prompt, patch: Patch | None,
    source: Literal["final", "best"], outcome: schema.Outcome, verdict: schema.Verdict, usage: schema.Usage,
    model: str | None, started: str,
) -> schema.Result:  # fmt: skip
    """Put together the result of an attempt; `patch` is None where none could be collected."""
    task = bench.task
    options = {name: value for name, value in spec.options.items() if name not in PATHS}
    content = [task_sha256(task), prompt.sha256, bench.seal.tree, spec.agent, agent.version, options, spec.n]
    identity = schema.Identity(
        run_id=spec.run_id,
        attempt_id=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16],
        task_id=task.id,
        task_sha256=task_sha256(task),
        prompt_sha256=prompt.sha256,
        prompt_template=prompt.template,
        prompt_template_sha256=prompt.template_sha256,
        agent=spec.agent,
        agent_version=agent.version,
        model=model,
        label=spec.name,
        n=spec.n,
        omniperf_version=omniperf.__version__,
    )
    return schema.Result(
        identity=identity,
        started=started,
        finished=now(),
        outcome=outcome,
        patch=None if patch is None else _patch_info(patch, task, source),
        verdict=verdict,
        usage=usage,
        provenance=schema.Provenance(
            source=bench.source.label,
            base=bench.source.base,
            base_tree=bench.seal.tree,
            human=bench.source.human,
            patched_tree=None if patch is None else patch.tree,
        ),
        environment=bench.environment_facts(),
        sandbox=bench.backend.name,
        prompt_check=spec.prompt_check,
        allow_leak=spec.allow_leak,
        start=spec.start,
    )


def as_collected(
    patch: Patch, source: Literal["final", "best"], outcome: schema.Outcome, usage: schema.Usage, model: str | None,
    findings: tuple[schema.Finding, ...], started: str,
) -> dict[str, object]:  # fmt: skip
    """What is known of an attempt once its patch is there: enough to measure it later, should the attempt be killed."""
    return {
        "sha256": patch.sha256,
        "tree": patch.tree,
        "files": [file.model_dump(mode="json") for file in patch.files],
        "source": source,
        "outcome": outcome.model_dump(mode="json"),
        "usage": usage.model_dump(mode="json"),
        "model": model,
        "findings": [finding.model_dump(mode="json") for finding in findings],
        "started": started,
    }


def _patch_info(patch: Patch, task: Task, source: Literal["final", "best"]) -> schema.PatchInfo:
    files = scope.mark(patch.files, task)
    return schema.PatchInfo(
        sha256=patch.sha256,
        bytes=len(patch.data),
        files=files,
        added=sum(file.added or 0 for file in files),
        removed=sum(file.removed or 0 for file in files),
        in_scope=all(file.in_scope for file in files),
        source=source,
    )


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
