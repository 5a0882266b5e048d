"""The noise of a task on this host: taken from pairs of base and base, kept in the cache, and found again.

The noise floor is the largest effect that base against base shows: `exp(max(|low|, |high|)) - 1`, with `low` and `high`
the two-sided 95 % Hodges-Lehmann interval of the pairs' log ratios. That is the smallest bound within which base would
be called equivalent to itself by two one-sided tests at 2.5 % (Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987), with
the interval of Hollander, Wolfe & Chicken, section 3.3, in place of the t interval). It holds what randomised pairs
cannot average away (two trees with the same content at two places of the disk) and what twelve pairs leave open.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import omniperf
from omniperf.measure.host import cpu_model, host_id
from omniperf.measure.lanes import find_lanes
from omniperf.measure.nvml import gpus
from omniperf.measure.statistics import hl_interval, hodges_lehmann, robust_sd
from omniperf.results.certificate import Calibration, Noise
from omniperf.results.schema import Interval
from omniperf.results.store import write_whole
from omniperf.tasks.load import task_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from omniperf.measure.bench import Bench
    from omniperf.measure.pairs import Pairs

PAIRS = 12
"""Six blocks: with fewer pairs a single outlier could set an end of the interval."""

_VALID = timedelta(days=30)
_CONFIDENCE = 0.95
_OUTLIER = 4.0  # robust SDs


def noise_of(d: Sequence[float], orders: Sequence[str]) -> Noise:
    """The noise in the log ratios `d` of pairs of base and base; `orders` says of each whether it ran as AB or BA.

    The autocorrelation is the usual estimate at lag one, `sum((d[i] - m) (d[i + 1] - m)) / sum((d[i] - m)^2)`, with `m`
    the mean. Raises ValueError where `d` holds anything but finite log ratios, or `orders` is not as long.
    """
    low, high = hl_interval(d, _CONFIDENCE)
    sigma, centre, mean = robust_sd(d), statistics.median(d), statistics.fmean(d)
    spread = math.fsum((one - mean) ** 2 for one in d)
    neighbours = math.fsum((one - mean) * (other - mean) for one, other in pairwise(d))
    # d is ln(A / B), A being base: where A came first, ln(second / first) is its negative.
    second_to_first = [-one if order == "AB" else one for one, order in zip(d, orders, strict=True)]
    return Noise(
        pairs=len(d),
        speedup=math.exp(hodges_lehmann(d)),
        interval=Interval(low=math.exp(low), high=math.exp(high), confidence=_CONFIDENCE),
        sigma=sigma,
        position_bias=statistics.fmean(second_to_first),
        autocorrelation=neighbours / spread if spread else None,
        outlier_share=sum(abs(one - centre) > _OUTLIER * sigma for one in d) / len(d),
        floor=math.expm1(max(0.0, -low, high)),
    )


def keep(bench: Bench, pairs: Pairs, orders: Sequence[str], wall_seconds: float) -> Calibration:
    """Make a calibration of pairs of base and base, and keep it for the verdicts of this task on this host."""
    found = Calibration(
        task_id=bench.task.id,
        **_holds_for(bench),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        omniperf_version=omniperf.__version__,
        noise=noise_of(pairs.log_ratios(bench.task.primary_metric), orders),
        states=pairs.states,
        lane_seconds=pairs.lane_seconds,
        wall_seconds=wall_seconds,
    )
    write_whole(_file(bench), found.model_dump_json(indent=1).encode())
    return found


def stored(bench: Bench) -> Calibration | None:
    """The calibration that holds for this task, environment, host and device; None where there is none or it is old."""
    with suppress(OSError, ValueError):  # absent, or damaged
        found = Calibration.model_validate_json(_file(bench).read_bytes())
        if datetime.now(UTC) - datetime.fromisoformat(found.measured) < _VALID:
            return found
    return None


def _file(bench: Bench) -> Path:
    content = [sorted(Calibration.model_fields), sorted(Noise.model_fields), _holds_for(bench)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    return bench.settings.cache / "calibration" / f"{key}.json"


def _holds_for(bench: Bench) -> dict[str, object]:
    """All that a calibration depends on. The environment's key covers set-up, interpreter, packages and sandbox."""
    return {
        "task_sha256": task_sha256(bench.task),
        "environment": bench.environment.key,
        "base_tree": bench.seal.tree,
        "metric": bench.task.primary_metric.name,
        "host": host_id(),
        "device": _device(bench),
    }


def _device(bench: Bench) -> tuple[str, ...]:
    """The GPUs of all lanes, since any of them may be free when a verdict is wanted; else the CPU."""
    wanted = {uuid for lane in find_lanes(bench.task.resources) for uuid in lane.gpus}
    if not wanted:
        return (cpu_model(),)
    return tuple(f"{gpu.uuid} {gpu.name}, driver {gpu.driver}" for gpu in gpus() if gpu.uuid in wanted)
