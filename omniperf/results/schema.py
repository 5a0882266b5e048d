"""`omniperf/result/v1`: an attempt's whole truth in one record."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA = "omniperf/result/v1"

VerdictClass = Literal[
    "improved", "no_change", "regressed", "inconclusive", "incorrect", "rejected", "invalid", "no_patch", "unverified"
]
OutcomeKind = Literal["finished", "budget", "agent_error", "infra_error", "harness_error", "cancelled"]
Phase = Literal["preflight", "workspace", "prompt", "agent", "collect", "verify", "report"]
InfraKind = Literal[
    "auth", "quota", "throttled", "protocol", "missing_dep", "disk", "spawn", "device", "network"
]


class Model(BaseModel):
    """A frozen record that refuses unknown keys. Text that is no Unicode (lone surrogates) is escaped."""

    @model_validator(mode="before")
    @classmethod
    def _escape(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {
            key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for key, value in data.items()
        }

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")


class Interval(Model):
    """A two-sided interval for a speedup (base / candidate)."""

    low: float
    high: float
    confidence: float


class Estimate(Model):
    """A speedup (base / candidate; > 1 is better) with its uncertainty.

    `interval` is at 95 %, two-sided; `claim` is one-sided at the verdict's own confidence on each side, as shared with
    other claims. Both hold at all looks at once, whatever stopped the measurement. `noise` is the robust SD of one
    pair's log ratio; `minimum_detectable_effect` is a ratio minus one.
    """

    speedup: float
    interval: Interval
    claim: Interval
    pairs: int
    noise: float
    minimum_detectable_effect: float


class MetricResult(Model):
    """One metric of the verdict; medians are in `unit`."""

    name: str
    unit: str
    direction: Literal["lower", "higher"] = "lower"
    primary: bool
    base_median: float
    candidate_median: float
    estimate: Estimate
    guard: float | None = None
    guard_held: bool | None = None


class Finding(Model):
    """One integrity observation."""

    id: str
    severity: Literal["reject", "warn", "info"]
    message: str
    evidence: str = ""
    remedy: str = ""


class Correctness(Model):
    """What was checked of the candidate's behaviour. `None` means not checked, never clean.

    `tests_passed`: with the patch every test passed that passes on base each time; `tests_set_aside` names the others,
    with the reason. `fresh_states` is how many states of fresh seeds were compared in full before anything was timed,
    `shapes_compared` how many of the task's other shapes. `memory_written`: the outputs were base's even though all
    memory was spoilt that is handed out unwritten. `inputs_kept`: `run` leaves its state as it was where base's does.
    `precision_kept`: no floating array is further from the workload's own `reference` than twice base's is.
    `probes_held` names the probes, by the findings that they would have made, to which the outputs were base's too:
    `identity-cache`, `second-process` (which stands for `environment-probe`). A probe that base fails is not among them.
    """

    tests_passed: bool | None = None
    tests_set_aside: tuple[str, ...] = ()
    outputs_equal: bool | None = None
    memory_written: bool | None = None
    inputs_kept: bool | None = None
    precision_kept: bool | None = None
    probes_held: tuple[str, ...] = ()
    fresh_states: int = 0
    shapes_compared: int = 0
    outputs_compared: int = 0
    seeds: int = 0
    detail: str = ""


class Cost(Model):
    """What the verdict cost: wall seconds in all, and seconds a lane was held."""

    wall_seconds: float = 0.0
    lane_seconds: float = 0.0
    samples: int = 0


class Verdict(Model):
    """What a patch is worth, from the harness's own measurement alone."""

    class_: VerdictClass = Field("unverified", alias="class")
    reason: str = "not verified"
    speedup: Estimate | None = None
    metrics: tuple[MetricResult, ...] = ()
    correctness: Correctness = Correctness()
    findings: tuple[Finding, ...] = ()
    noise_floor: float | None = Field(None, description="A/A noise floor of this host and task; None: not calibrated")
    versus_human: Literal["beats_human", "matches_human", "below_human", "inconclusive"] | None = None
    versus_human_speedup: Estimate | None = None
    printed: dict[str, float] = Field(default_factory=dict, description="what a process that runs the tree printed of itself, never decisive")
    seed_commitment: str = Field("", description="sha256 of the secret the seeds and the order were drawn from")
    seed_secret: str = Field("", description="the secret itself, revealed after measuring")
    cost: Cost = Cost()


class PatchFile(Model):
    """One file of a patch."""

    path: str
    status: Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]
    added: int | None = Field(None, description="lines; None for a binary file")
    removed: int | None = None
    old_path: str | None = None
    in_scope: bool = True
    mode: str | None = Field(None, description="git's, such as 100644, 100755, 120000 (a link); None: it is deleted")
    old_mode: str | None = Field(None, description="the one before; None: it is new")
    bytes: int | None = Field(None, description="how large it is with the patch; None: deleted, or a submodule")
    link: str | None = Field(None, description="where it leads, if it is a link")
    generated: bool = Field(False, description="whether its first lines say that it was generated")


class PatchInfo(Model):
    """The collected patch. Lines of binary files are not counted."""

    sha256: str
    bytes: int
    files: tuple[PatchFile, ...]
    added: int
    removed: int
    in_scope: bool
    source: Literal["final", "best"] = "final"


class Outcome(Model):
    """How the attempt ended, which says nothing about what its patch is worth."""

    kind: OutcomeKind
    detail: str = ""
    infra_kind: InfraKind | None = None
    phase: Phase = "agent"
    exit_code: int | None = None
    signal: str | None = None
    evidence: str = Field("", description="the log line that proves it")
    finish_called: bool = False


class Usage(Model):
    """What the attempt used. `usd` is None when a model's price is unknown."""

    steps: int = 0
    input_tokens: int = Field(0, description="all that was sent, cached or not")
    output_tokens: int = 0
    cached_tokens: int = Field(0, description="of the input, what was read from the provider's cache")
    cache_write_tokens: int = Field(0, description="of the input, what was written to it")
    usd: float | None = 0.0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    seconds_to_first_edit: float | None = None
    seconds_to_first_gain: float | None = None


class Identity(Model):
    """What was attempted. Ids are content-derived, never a line number or a path."""

    run_id: str
    attempt_id: str
    task_id: str
    task_sha256: str
    prompt_sha256: str
    prompt_template: str = Field(description="name@version")
    prompt_template_sha256: str
    agent: str
    agent_version: str
    model: str | None = Field(None, description="the model observed in the provider's own replies")
    label: str
    n: int
    omniperf_version: str


class PromptPart(Model):
    """One comparison of a prompt with the human solution, or with what other repositories are called."""

    name: str
    status: Literal["clean", "leaks", "foreign", "not checked"]
    detail: str = ""
    evidence: tuple[str, ...] = ()


class PromptCheck(Model):
    """What a prompt gives away of the human solution (`leaks`), or says of another repository (`foreign`).

    `clean` says that something was compared and nothing found; `not checked`, that there was nothing to compare with.
    """

    status: Literal["clean", "leaks", "foreign", "not checked"]
    parts: tuple[PromptPart, ...]

    @property
    def blocks(self) -> bool:
        """Whether no attempt may start with this prompt, unless it is allowed explicitly."""
        return self.status in ("leaks", "foreign")


class Provenance(Model):
    """The git facts of the attempt."""

    source: str
    base: str
    base_tree: str
    human: str | None = None
    patched_tree: str | None = None


class Tried(Model):
    """What an earlier attempt of a chain came to, as the next ones are told.

    `at_least` is the lower end of the claim, which holds for all attempts of the chain at once. `change` is the beginning
    of what its patch changed, `summary` the agent's own words.
    """

    n: int
    verdict: VerdictClass
    speedup: float | None = None
    at_least: float | None = None
    patch_sha256: str = ""
    files: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    change: str = ""
    summary: str = ""


class Start(Model):
    """`start.json`: from where an attempt of a chain begins, written before it starts.

    `parent` is the attempt whose patch its workspace holds, None: base. Of the attempts before it, `tried` are those
    that it is told of.
    """

    schema_: Literal["omniperf/start/v1"] = Field("omniperf/start/v1", alias="schema")
    parent: int | None = None
    patch_sha256: str = Field("", description="of the parent")
    before: int = Field(0, description="attempts of the chain before this one")
    tried: tuple[Tried, ...] = ()

    @property
    def origin(self) -> str:
        """From where, in short: `base`, or the number of the attempt, as in `.3`."""
        return "base" if self.parent is None else f".{self.parent}"


class Result(Model):
    """`result.json`."""

    schema_: Literal["omniperf/result/v1"] = Field("omniperf/result/v1", alias="schema")
    identity: Identity
    started: str
    finished: str
    outcome: Outcome
    patch: PatchInfo | None
    verdict: Verdict
    usage: Usage
    provenance: Provenance
    environment: dict[str, Any]
    sandbox: str
    prompt_check: PromptCheck | None = Field(None, description="None: an attempt made without a run's checks")
    allow_leak: bool = Field(False, description="whether a prompt that leaks or is foreign was allowed to run")
    start: Start | None = Field(None, description="of an attempt of a chain; None: it stands alone")


class Verification(Model):
    """`verification.json`: a patch that was measured again, apart from the attempt or the prediction it is from."""

    schema_: Literal["omniperf/verification/v1"] = Field("omniperf/verification/v1", alias="schema")
    task_id: str
    task_sha256: str
    label: str = Field(description="whose patch: an attempt's LABEL.N, or a prediction's model")
    patch_sha256: str
    before: VerdictClass | None = Field(None, description="what the attempt's own verdict was")
    verdict: Verdict
    finished: str
    omniperf_version: str
    environment: dict[str, Any]
    sandbox: str


class Imported(Model):
    """`imported.json`: what the output of an earlier run of a client says of that run. Nothing of it was measured.

    None is what the output does not say. Counts and USD are the client's own; `models` are those that it names.
    """

    schema_: Literal["omniperf/imported/v1"] = Field("omniperf/imported/v1", alias="schema")
    run_id: str
    agent: str
    n: int
    source: str = Field("", description="the name of the file, whose text is in logs/agent.stdout")
    source_sha256: str = ""
    client_version: str | None
    session: str | None
    models: tuple[str, ...]
    says: Literal["done", "failed"] | None = Field(description="how the client says that it ended")
    failure: str = Field("", description="its words for that")
    final: str = Field(description="its last message")
    turns: int | None
    tool_calls: int | None
    failed_calls: int | None = Field(description="of the calls, those with an error or an exit status but 0")
    denied: tuple[str, ...] = Field(description="tools for which it got no permission")
    input_tokens: int | None = Field(description="all that was sent, cached or not")
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    usd: float | None
    verdict: Verdict = Verdict(reason="imported: nothing was measured")
    omniperf_version: str
