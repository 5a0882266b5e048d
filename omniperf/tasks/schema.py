"""The task file, `omniperf/task/v1`: one optimization problem, stated completely."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

SCHEMA = "omniperf/task/v1"


class ProblemError(ValueError):
    """What is wrong with a task file, and what to do about it."""

    def __init__(self, said: str, remedy: str) -> None:
        super().__init__(said)
        self.remedy = remedy


class Model(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _relative(path: str) -> str:
    """Accept a path or glob inside a tree; refuse anything that could leave it."""
    pure = PurePosixPath(path)
    if not path or "\0" in path or "\\" in path or pure.is_absolute() or ".." in pure.parts or path.startswith("~"):
        raise ValueError(f"{path!r} must be a relative path inside the tree, with forward slashes and without '..'")
    if path.count("**") > 4 or any(part.count("*") > 3 for part in pure.parts):  # to match it could take for ever
        raise ValueError(f"{path!r} has too many wildcards: at most four `**`, and three `*` in a name")
    return path


def _regex(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"{pattern!r} must have exactly one group, around the number; it has {groups}")
    return pattern


def _repository(url: str) -> str:
    """Accept what git fetches over a network or from a disk; refuse what it takes for an option or a program."""
    if not re.match(r"(https?|ssh|git|file)://[^-]|[A-Za-z0-9._-]+@[A-Za-z0-9][A-Za-z0-9.-]*:", url):
        raise ValueError(f"{url!r} is no URL of a repository: write https://..., ssh://... or USER@HOST:PATH")
    if ".." in url.split("/") or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError(f"{url!r} holds '..' or a character that no URL has")
    return url


def _revision(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._/+@~^-]*", name):
        raise ValueError(f"{name!r} names no commit")
    return name


def _task_id(name: str) -> str:
    """Refuse names that some file system takes for a device, or shortens."""
    if re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name) or name.endswith("."):
        raise ValueError(f"{name!r} cannot name a folder everywhere; choose another id")
    return name


RepositoryUrl = Annotated[str, AfterValidator(_repository)]
Revision = Annotated[str, AfterValidator(_revision)]
RelativePath = Annotated[str, AfterValidator(_relative)]
NumberRegex = Annotated[str, AfterValidator(_regex)]


class Repo(Model):
    """Where the tree comes from: exactly one of `url`, `path`, `pypi`."""

    url: Annotated[str, AfterValidator(_repository)] | None = Field(
        None, description="a git URL; hosts without a network resolve it through mirrors"
    )
    path: str | None = Field(None, description="a git repository or plain folder, relative to the task file")
    pypi: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*$", description="NAME==VERSION"
    )
    base: Revision | None = Field(None, description="the commit the agent starts from; not for pypi or a plain folder")
    human: Revision | None = Field(None, description="the reference commit; never reachable by the agent")
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


class Ready(Model):
    """When a process has started up: exactly one of the two."""

    port: bool = Field(False, description="when its port takes a connection; services only")
    regex: str | None = Field(None, description="when what it prints has matched this")
    seconds: float = Field(60.0, gt=0, description="it must be ready within these")

    @model_validator(mode="after")
    def _one_sign(self) -> Ready:
        if self.port == (self.regex is not None):
            raise ProblemError("give exactly one sign of being ready", "Write `{port: true}` or `{regex: '...'}`.")
        try:
            re.compile(self.regex or "")
        except re.error as error:
            raise ProblemError(f"{self.regex!r} is not a regular expression: {error}", "Correct it.") from None
        return self


class Workload(Model):
    """What is timed: exactly one of `file`, `command`, `serve`. A plain `workload: file.py` means `{file: file.py}`."""

    file: RelativePath | None = Field(None, description="a module or a script next to the task file, outside the repo")
    command: str | None = Field(
        None, description="any command, run from the tree without a shell; {seed} in it becomes the seed"
    )
    serve: str | None = Field(
        None, description="the command of a server, run from the tree without a shell, with {port} in it"
    )
    load: RelativePath | None = Field(
        None, description="serve: the load generator, a Python file next to the task file that never sees the tree"
    )
    kind: Literal["module", "script", "command", "service"] | None = Field(
        None, description="of a file: module if it defines setup(seed) and run(state), else script; None: look"
    )
    args: tuple[str, ...] = Field((), description="of a script or a load generator; {port} and {seed} are filled in")
    files: tuple[RelativePath, ...] = Field((), description="files next to the task file, seen as /omniperf/NAME")
    ready: Ready | None = Field(None, description="when start-up is over; serve: by default when the port answers")
    reach: Literal["none"] | None = Field(
        None, description="none: what runs is not Python, so that it reaches the targets is not checked"
    )
    outputs: Literal["none"] | None = Field(
        None, description="none: the load generator reports no outputs to compare, so the tests must judge"
    )
    printed: NumberRegex | None = Field(
        None, description="a script's own figure, shown beside the measured time, never used for the verdict"
    )

    @property
    def stated_kind(self) -> Literal["file", "command", "service"]:
        """What the keys say; whether a file is a module or a script, only the file does."""
        return "command" if self.command is not None else "service" if self.serve is not None else "file"

    @property
    def all_files(self) -> dict[tuple[str | int, ...], str]:
        """The files that it names, by where it names them."""
        named: list[tuple[tuple[str | int, ...], str | None]] = [((), self.file), (("load",), self.load)]
        named += [(("files", at), name) for at, name in enumerate(self.files)]
        return {place: name for place, name in named if name is not None}

    @model_validator(mode="after")
    def _one_kind(self) -> Workload:
        named = [name for name in ("file", "command", "serve") if getattr(self, name) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none of them"
            raise ProblemError(f"give exactly one of file, command, serve; found {found}", "Keep one.")
        stated = self.stated_kind
        if self.kind is not None and self.kind not in {"file": ("module", "script")}.get(stated, (stated,)):
            raise ProblemError(f"`{named[0]}` is not of kind {self.kind}", "Leave `kind` out.")
        fitting = {
            "file": {"args", "files", "printed"}, "command": {"files", "ready", "reach"},
            "service": {"load", "args", "files", "ready", "reach", "outputs"},
        }[stated]  # fmt: skip
        for key in ("load", "args", "files", "ready", "reach", "outputs", "printed"):
            if getattr(self, key) not in (None, ()) and key not in fitting:
                raise ProblemError(f"`{key}` has no meaning beside `{named[0]}`", f"Remove `{key}`.")
        self._check_command(named[0])
        if self.load in self.files:
            raise ProblemError(f"{self.load} is the load generator, which the server must not see", "Not in `files`.")
        if taken := [name for name in (*self.files, self.load) if name and name.partition("/")[0] in _OURS]:
            raise ProblemError(f"the harness has a {taken[0]} of its own at /omniperf", "Name the file otherwise.")
        return self

    def _check_command(self, key: str) -> None:
        try:
            empty = key != "file" and not shlex.split(getattr(self, key))
        except ValueError as error:
            raise ProblemError(f"`{key}` cannot be split into words: {error}", "Close its quotes.") from None
        if empty:
            raise ProblemError(f"`{key}` is empty", "Write the command there.")
        if self.command is not None and self.ready is not None and self.ready.port:
            raise ProblemError("a command has no port that could answer", "Use `ready: {regex: ...}`, or `serve`.")
        if self.serve is not None and self.load is None:
            raise ProblemError("`serve` needs `load`, the load generator", "Add `load: load.py`.")
        if self.serve is not None and "{port}" not in self.serve:
            raise ProblemError("`serve` does not say {port}, which the harness chooses", "Add it: `--port {port}`.")


# What is mounted at /omniperf already, or could be.
_OURS = (
    "bin",
    "bytecode",
    "checker.py",
    "confined.py",
    "launch.py",
    "reach",
    "supervisor.py",
    "worker.py",
    "workload.py",
)


class Reading(Model):
    """Where a figure stands in what a process prints: exactly one of the two."""

    regex: NumberRegex | None = Field(None, description="must match exactly once; its group is the number")
    json_: str | None = Field(
        None, alias="json", min_length=1, description="a dotted path in the JSON object on the last line"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Reading:
        if (self.regex is None) == (self.json_ is None):
            raise ProblemError("give exactly one of regex, json", "Write `{regex: ...}` or `{json: a.b}`.")
        return self

    def __str__(self) -> str:
        return f"regex {self.regex!r}" if self.regex is not None else f"json {self.json_!r}"


# What the harness measures itself, and in which unit.
MEASURED = {"latency": "s", "peak_memory": "MiB", "startup": "s"}


class Metric(Model):
    """One quantity and which way is better: measured by the harness, or read from what a process prints."""

    name: str = Field(
        "latency", pattern=r"^[a-z][a-z0-9_]*$",
        description="latency, peak_memory and startup are measured by the harness; any other is read",
    )  # fmt: skip
    unit: str = Field("s", min_length=1, max_length=20)
    direction: Literal["lower", "higher"] = "lower"
    primary: bool = False
    guard: float | None = Field(None, ge=1.0, description="may not get worse than this ratio")
    from_: Reading | None = Field(
        None, alias="from", description="where it is printed; of a load generator by default {json: NAME}"
    )

    @property
    def decides(self) -> bool:
        """Whether the verdict depends on it."""
        return self.primary or self.guard is not None

    @property
    def reading(self) -> Reading | None:
        """Where it is printed; None where the harness measures it."""
        return None if self.name in MEASURED else self.from_ or Reading.model_validate({"json": self.name})

    @model_validator(mode="after")
    def _unit_fits(self) -> Metric:
        wanted = MEASURED.get(self.name)
        if wanted is None:
            return self
        if self.unit != wanted:
            raise ProblemError(f"{self.name} is measured in {wanted}, not {self.unit}", f"Write `unit: {wanted}`.")
        if self.direction != "lower":
            raise ProblemError(f"of {self.name} less is better", "Write `direction: lower`.")
        if self.from_ is not None:
            raise ProblemError(f"{self.name} is measured, never read", "Remove `from`, or name it otherwise.")
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
    rule: Literal["looks", "sequence"] = Field(
        "looks",
        description="looks: at 4, 6, 9, 12, 16 and 24 pairs; sequence: after every other pair, at a wider bound",
    )
    max_pairs: int = Field(
        24, ge=4, le=400, description="where measuring ends; more than 24 only with `rule: sequence`"
    )

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

    @model_validator(mode="after")
    def _pairs_fit_rule(self) -> Measure:
        if self.rule == "looks" and self.max_pairs > 24:
            raise ValueError(f"max_pairs: {self.max_pairs} needs `rule: sequence`; the planned looks end at 24 pairs")
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
    id: Annotated[str, AfterValidator(_task_id)] = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)
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
        if self.workload is not None:
            self._metrics_fit(self.workload)
        missing = [name for name in ("repo", "targets", "workload") if not getattr(self, name)]
        if missing:
            raise ValueError(f"missing: {', '.join(missing)} (a task with only `legacy` metadata needs none of them)")
        return self

    def _metrics_fit(self, workload: Workload) -> None:
        """Refuse metrics that the workload's kind cannot have, above all figures that a tree prints of itself."""
        kind = workload.stated_kind
        for metric in self.metrics:
            if metric.name == "startup" and not (kind == "service" or (kind == "command" and workload.ready)):
                raise ProblemError(
                    "metrics: startup needs a sign that start-up is over",
                    "Give a command `ready: {regex: ...}`, or measure a service.",
                )
            if metric.name == "peak_memory" and kind != "file":
                raise ProblemError(
                    "metrics: peak_memory is measured for workloads of the kind module", "Write setup and run."
                )
            if metric.name in MEASURED or kind == "service":
                continue
            if metric.from_ is None:
                raise ProblemError(
                    f"metrics: {metric.name} is not among what is measured ({', '.join(MEASURED)})",
                    "Say where it is printed: `from: {regex: ...}` or `from: {json: ...}`.",
                )
            if metric.decides:
                raise ProblemError(
                    f"metrics: {metric.name} is printed by a process that runs the tree's code, which could print "
                    "anything, so it decides nothing",
                    "Remove `primary` and `guard`: it is shown beside the verdict. Or let a load generator measure it.",
                )
        if workload.outputs == "none" and not self.tests:
            raise ProblemError(
                "workload: with `outputs: none` nothing would judge a patch", "Add `tests`, or report `outputs`."
            )
