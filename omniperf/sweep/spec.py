"""A sweep file, `omniperf/sweep/v1`: which tasks, which agents, how often, and what it may cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator, model_validator

from omniperf.errors import UsageError
from omniperf.tasks.load import read_record
from omniperf.tasks.schema import Model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SCHEMA: Literal["omniperf/sweep/v1"] = "omniperf/sweep/v1"
Strategy: TypeAlias = Literal["independent", "refine"]
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


class Contender(Model):
    """One agent of a sweep with its options (`model`, `base_url`, ...). `label` is what its attempts are called."""

    agent: str
    label: str = Field("", pattern=rf"^({_NAME})?$", description="the agent's name, where none is given")
    options: dict[str, str | int | float] = Field(default_factory=dict)

    @classmethod
    def named(cls, text: str) -> Contender:
        """The contender that AGENT or AGENT:MODEL means."""
        agent, _, model = text.partition(":")
        if not model:
            return cls(agent=agent)
        return cls(agent=agent, label=f"{agent}-{re.sub('[^A-Za-z0-9._-]', '-', model)}", options={"model": model})

    @property
    def name(self) -> str:
        """The label, or the agent's name."""
        return self.label or self.agent


class Caps(Model):
    """What each attempt may use, where that is less than its task allows."""

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    usd: float | None = Field(None, ge=0)
    tokens: int | None = Field(None, ge=0)


class Sweep(Model):
    """Tasks x agents x attempts. A task is a name, a path, a glob over names, or `tag:NAME`."""

    schema_: Literal["omniperf/sweep/v1"] = Field(SCHEMA, alias="schema")
    tasks: tuple[str, ...] = Field(min_length=1)
    agents: tuple[Contender, ...] = Field(min_length=1)
    attempts: int = Field(1, ge=1, le=1000)
    strategy: Strategy = Field("independent", description="refine: each goes on from the best verified patch before it")
    limits: Caps = Caps()
    usd: float | None = Field(None, ge=0, description="for the whole sweep; None: the sum of its attempts' limits")
    seed: int = Field(0, description="of the order")
    template: str = "optimize"
    hints: bool = True
    versus_human: bool = Field(False, description="measure what improved against the human patch too")
    verify: bool = Field(True, description="False: patches are collected, to be measured later by `omniperf verify`")

    @field_validator("agents", mode="before")
    @classmethod
    def _by_name(cls, given: object) -> object:
        """An agent without options may be just its name; `null` without quotes is nothing to YAML, but meant."""
        if isinstance(given, list | tuple):
            return [{"agent": one or "null"} if isinstance(one, str | None) else one for one in given]
        return given

    @model_validator(mode="after")
    def _distinct(self) -> Sweep:
        names = [one.name for one in self.agents]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"agents: {twice!r} is there twice; give each a `label` of its own")
        return self


def load_sweep(file: Path) -> Sweep:
    """Read a sweep file. Raises UsageError with the line of each error."""
    return read_record(file, Sweep, SCHEMA)[0]


def sweep_of(tasks: Iterable[str], agents: Iterable[str]) -> Sweep:
    """The sweep that tasks and AGENT[:MODEL] on a command line mean. Raises UsageError where it is none."""
    try:
        return Sweep(tasks=tuple(tasks), agents=tuple(Contender.named(one) for one in agents))
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"These make no sweep: {said}.", "Correct --agent, or write a sweep file.") from None
