"""The task file, `omniperf/task/v1`: one optimization problem, stated completely."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

SCHEMA = "omniperf/task/v1"


class Model(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _relative(path: str) -> str:
    """Accept a path or glob inside a tree; refuse anything that could leave it."""
    pure = PurePosixPath(path)
    if not path or "\0" in path or "\\" in path or pure.is_absolute() or ".." in pure.parts or path.startswith("~"):
        raise ValueError(f"{path!r} must be a relative path inside the tree, with forward slashes and without '..'")
    return path


def _regex(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"{pattern!r} must have exactly one group, around the number; it has {groups}")
    return pattern


RelativePath = Annotated[str, AfterValidator(_relative)]
NumberRegex = Annotated[str, AfterValidator(_regex)]


class Repo(Model):
    """Where the tree comes from: exactly one of `url`, `path`, `pypi`."""

    url: str | None = Field(None, description="a git URL; hosts without a network resolve it through mirrors")
    path: str | None = Field(None, description="a git repository or plain folder, relative to the task file")
    pypi: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[^\s=]+$", description="NAME==VERSION")
    base: str | None = Field(None, description="the commit the agent starts from; not for pypi or a plain folder")
    human: str | None = Field(None, description="the reference commit; never reachable by the agent")
    human_patch: RelativePath | None = Field(
        None, description="the reference as a diff next to the task file, where no commit can name it"
    )
    omit: tuple[RelativePath, ...] = Field((), description="globs left out of the tree; part of its hash")

    @model_validator(mode="after")
    def _one_source(self) -> Repo:
        named = [name for name in ("url", "path", "pypi") if getattr(self, name) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none of them"
            raise ValueError(f"give exactly one of url, path, pypi; found {found}")
        if self.url and not self.base:
            raise ValueError("a url needs `base`, the commit the agent starts from")
        if self.pypi and (self.base or self.human):
            raise ValueError("a pypi source has one commit; drop `base` and `human` (use `human_patch`)")
        if self.human and self.human_patch:
            raise ValueError("give `human` or `human_patch`, not both")
        return self


class TaskEnvironment(Model):
    """The Python the task runs on and what is installed into it."""

    python: str = Field(">=3.11", description="a version specifier")
    setup: tuple[str, ...] = Field((), description="once per (repo, base, setup); the only step with network")
    build: tuple[str, ...] = Field((), description="in the sandbox, no network, in each arm after the patch")
    env: dict[str, str] = Field(default_factory=dict)
    pythonpath: tuple[RelativePath, ...] = Field((), description="folders of the tree put on sys.path")
    host_packages: tuple[str, ...] = Field(
        (), description="packages too large to install for a task (torch, triton): a Python of the host must have them"
    )


class Workload(Model):
    """The code that is timed. A plain `workload: file.py` means `{file: file.py}`, its kind found by reading it."""

    file: RelativePath = Field(description="next to the task file, outside the repo")
    kind: Literal["module", "script"] | None = Field(
        None, description="module: defines setup(seed) and run(state); script: anything else; None: look"
    )
    args: tuple[str, ...] = Field((), description="a script's arguments")
    printed: NumberRegex | None = Field(
        None, description="a script's own figure, shown beside the measured time, never used for the verdict"
    )


class Metric(Model):
    """One measured quantity and which way is better."""

    name: Literal["latency", "peak_memory"] = "latency"
    unit: Literal["s", "MiB"] = "s"
    direction: Literal["lower"] = "lower"
    primary: bool = False
    guard: float | None = Field(None, ge=1.0, description="may not get worse than this ratio")

    @model_validator(mode="after")
    def _unit_fits(self) -> Metric:
        wanted = {"latency": "s", "peak_memory": "MiB"}[self.name]
        if self.unit != wanted:
            raise ValueError(f"{self.name} is measured in {wanted}, not {self.unit}")
        return self


class Resources(Model):
    """What one attempt may use of the host."""

    gpus: int = Field(0, ge=0)
    gpu_memory_gib: float = Field(0, ge=0)
    cpus: int = Field(1, ge=1)
    memory_gib: float = Field(4, gt=0)


class Limits(Model):
    """Where an attempt ends."""

    steps: int = Field(40, ge=1)
    minutes: float = Field(30, gt=0)
    usd: float = Field(5.0, ge=0)
    tokens: int = Field(2_000_000, ge=0)
    command_seconds: float = Field(600, gt=0)


class Measure(Model):
    """How sure a verdict must be. Ratios: 0.03 is 3 %."""

    min_effect: float = Field(0.03, gt=0, lt=1, description="the smallest effect that matters")
    margin: float = Field(0.01, ge=0, lt=1, description="a speedup must exceed this to be claimed")
    confidence: float = Field(
        0.99,
        description="of the claim: 0.95, 0.99 or 0.9975, for which the planned looks are calibrated",
        json_schema_extra={"enum": [0.95, 0.99, 0.9975]},
    )
    max_minutes: float = Field(5, gt=0)

    @field_validator("confidence")
    @classmethod
    def _calibrated(cls, confidence: float) -> float:
        if confidence not in (0.95, 0.99, 0.9975):
            raise ValueError(f"confidence must be 0.95, 0.99 or 0.9975, not {confidence:g}")
        return confidence

    @model_validator(mode="after")
    def _margin_below_effect(self) -> Measure:
        if self.margin >= self.min_effect:
            raise ValueError(f"margin ({self.margin}) must be below min_effect ({self.min_effect})")
        return self


class Hints(Model):
    """What the prompt may say beyond the task itself."""

    apis: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


class Legacy(Model):
    """Metadata of the earlier system, from which its prompts are made.

    Its texts are files next to the task file, read to the byte: a formatter must not touch their blanks and line ends.
    """

    template: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="the prompt template that the metadata is for")
    repo: str = Field(min_length=1, description="the repository's name, such as vllm")
    test_script: RelativePath = Field(description="file: the script that shows how the code is used")
    statistics: RelativePath | None = Field(None, description="file: `git diff --stat` of the human commit, as shown")
    commit_message: RelativePath | None = Field(None, description="file: the message of the human commit")
    example_diff: RelativePath | None = Field(None, description="file: the diff shown as an example")
    generator: str | None = Field(None, description="the path of a script that made inputs")
    human: str | None = Field(None, pattern=r"^[0-9a-f]{7,40}$", description="the human commit, as far as it is known")

    @property
    def files(self) -> dict[str, str]:
        """The named files by their keys."""
        keys = ("test_script", "statistics", "commit_message", "example_diff")
        return {key: name for key in keys if (name := getattr(self, key)) is not None}


class Task(Model):
    """One optimization problem: a repo at a base commit, targets, a workload, tests, limits."""

    schema_: Literal["omniperf/task/v1"] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)
    title: str = Field(min_length=1)
    description: str = ""
    tags: tuple[str, ...] = ()
    repo: Repo | None = None
    environment: TaskEnvironment = TaskEnvironment()
    targets: tuple[RelativePath, ...] = Field((), description="globs the patch may touch")
    allow_protected: tuple[RelativePath, ...] = ()
    workload: Workload | None = None
    shapes: tuple[dict[str, Any], ...] = Field(
        (), description="further arguments of setup: other inputs, never timed, whose outputs must be base's too"
    )
    metrics: tuple[Metric, ...] = (Metric(primary=True),)
    tests: tuple[str, ...] = ()
    resources: Resources = Resources()
    limits: Limits = Limits()
    measure: Measure = Measure()
    hints: Hints = Hints()
    constraints: tuple[str, ...] = ()
    legacy: Legacy | None = Field(None, description="metadata of the earlier system: prompt only")
    provenance: dict[str, str] = Field(default_factory=dict)

    _folder: Path = PrivateAttr(default_factory=Path)

    @property
    def folder(self) -> Path:
        """The folder of the task file, which the paths of other files in it are relative to."""
        return self._folder

    @property
    def prompt_only(self) -> bool:
        """Whether the task carries only metadata of the earlier system: it renders, but cannot run."""
        return self.legacy is not None and self.repo is None and self.workload is None

    @property
    def primary_metric(self) -> Metric:
        """The metric the verdict is about."""
        return next(metric for metric in self.metrics if metric.primary)

    @model_validator(mode="before")
    @classmethod
    def _workload_shorthand(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("workload"), str):
            data = {**data, "workload": {"file": data["workload"]}}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Task:
        if sum(metric.primary for metric in self.metrics) != 1:
            raise ValueError("mark exactly one metric `primary: true`")
        if len({metric.name for metric in self.metrics}) != len(self.metrics):
            raise ValueError("name each metric once")
        if self.prompt_only:
            return self
        missing = [name for name in ("repo", "targets", "workload") if not getattr(self, name)]
        if missing:
            raise ValueError(f"missing: {', '.join(missing)} (a task with only `legacy` metadata needs none of them)")
        return self
