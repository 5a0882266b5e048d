"""What is known of a task on one host: its noise, and the certificate (`omniperf/certificate/v1`) of its self-test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from omniperf.errors import OmniPerfError
from omniperf.results.schema import Interval, Model, Verdict
from omniperf.results.store import read_plain
from omniperf.tasks.load import task_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.tasks.schema import Task

SCHEMA = "omniperf/certificate/v1"

FOLDER = "certificates"
"""Beside the task file, one certificate a host. Not a file that the task names, so no part of its hash."""


Standing = Literal["here", "elsewhere", "stale"]
"""Whose a certificate is: this host's, another's, or (whoever's) that of a task that has changed since."""


class Noise(Model):
    """What base shows against a second tree of base, by the log ratios of their pairs.

    `speedup` is 1 but for noise; `interval` is its Hodges-Lehmann interval. `sigma` is the robust SD of one pair,
    `position_bias` the mean of ln(second / first) over the two samples of a pair, `autocorrelation` that of neighbouring
    pairs (None: all are equal), `outlier_share` the share beyond four robust SDs. `floor` is the noise floor, a ratio
    minus one: `omniperf.measure.calibration` defines it.
    """

    pairs: int
    speedup: float
    interval: Interval
    sigma: float
    position_bias: float
    autocorrelation: float | None
    outlier_share: float
    floor: float


class Calibration(Model):
    """The noise of one task on one host, with everything that it holds for. Times in seconds, `measured` in UTC.

    `device` names the GPUs on which the task may be timed, with their driver, or the CPU. `states` is the number of
    runs in a batch.
    """

    task_id: str
    task_sha256: str
    environment: str
    base_tree: str
    metric: str
    host: str
    device: tuple[str, ...]
    measured: str
    omniperf_version: str
    noise: Noise
    states: int
    lane_seconds: float
    wall_seconds: float


class Step(Model):
    """One part of the self-test. `lane_seconds` is None where they are not counted."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    wall_seconds: float = 0.0
    lane_seconds: float | None = None


class FixedPairs(Model):
    """The human patch against base with a number of pairs set beforehand, beside the sequential verdict."""

    pairs: int
    speedup: float
    interval: Interval
    samples: int
    lane_seconds: float
    wall_seconds: float


class Certificate(Model):
    """A task's self-test on one host, passed.

    `kind` says what the task may be used for: `optimization`, its human patch is `improved`; `control`, the human patch
    is `no_change` or `regressed`, so that a win is not known to exist; `open`, there is no human patch.
    """

    schema_: Literal["omniperf/certificate/v1"] = Field("omniperf/certificate/v1", alias="schema")
    task_id: str
    task_sha256: str
    kind: Literal["optimization", "control", "open"]
    host: str
    issued: str
    omniperf_version: str
    steps: tuple[Step, ...]
    calibration: Calibration
    null: Verdict
    human: Verdict | None
    fixed_pairs: FixedPairs | None
    environment: dict[str, Any]
    sandbox: str


def certificate_path(folder: Path, host: str) -> Path:
    """Where the certificate of a host goes, beside a task or in a folder like a task's."""
    return folder / FOLDER / f"{host}.json"


def certificates_of(task: Task, host: str) -> list[tuple[Standing, Certificate]]:
    """Return the certificates beside a task, newest first, each with its standing for this host.

    A file that holds none is passed over.
    """
    found = []
    for file in sorted((task.folder / FOLDER).glob("*.json")):
        try:
            found.append(Certificate.model_validate_json(read_plain(file)))
        except (OSError, ValidationError, OmniPerfError):
            continue
    sha256 = task_sha256(task) if found else ""
    newest = sorted(found, key=lambda one: one.issued, reverse=True)
    return [(_standing(one, sha256, host), one) for one in newest]


def _standing(certificate: Certificate, sha256: str, host: str) -> Standing:
    if certificate.task_sha256 != sha256:
        return "stale"
    return "here" if certificate.host == host else "elsewhere"
