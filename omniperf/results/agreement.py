"""Whether two measurements of one patch agree: on two hosts, or twice on one."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.errors import OmniPerfError
from omniperf.results.schema import Interval, Result, Verification
from omniperf.results.store import find_attempts, load_record, load_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omniperf.results.schema import Estimate
    from omniperf.settings import Settings

_Z = 1.959964  # the standard normal's quantile for a two-sided 95 %
_TIMED = ("improved", "no_change", "regressed", "inconclusive")


@dataclass(frozen=True)
class Agreement:
    """Two verdicts on one patch. `ratio` is B's speedup by A's, with its 95 % interval; None where one was not timed.

    `why` says what they disagree about, or that one decided nothing; "" where there is nothing to say.
    """

    a: Verification
    b: Verification
    ratio: float | None
    interval: Interval | None
    agree: bool
    why: str


@dataclass(frozen=True)
class Comparison:
    """What two sides hold: verdicts on the same task and patch, those that only one has, and how the hosts differ."""

    pairs: tuple[Agreement, ...]
    only_a: tuple[Verification, ...]
    only_b: tuple[Verification, ...]
    environment: dict[str, tuple[str, str]]

    @property
    def agree(self) -> bool:
        """Whether every pair does."""
        return all(pair.agree for pair in self.pairs)


def verdicts_of(settings: Settings, what: str) -> list[Verification]:
    """The verdicts that `what` means: a folder that `verify --out` wrote, or attempts as `find_attempts` takes them."""
    kept = sorted(Path(what).glob("*/*/verification.json"))
    if kept:
        return [load_record(file, Verification) for file in kept]
    return [_of_attempt(load_result(folder)) for folder in find_attempts(settings, what)]


def compare(a: Sequence[Verification], b: Sequence[Verification]) -> Comparison:
    """Pair the verdicts of two sides by task and patch, and say of each pair whether it agrees.

    What was never verified has no verdict, and is left out. Raises OmniPerfError where nothing can be paired.
    """
    sides: list[dict[tuple[str, str], list[Verification]]] = [defaultdict(list), defaultdict(list)]
    for side, verdicts in zip(sides, (a, b), strict=True):
        for one in verdicts:
            if one.verdict.class_ != "unverified":
                side[one.task_sha256, one.patch_sha256].append(one)
    pairs, only = [], ([], [])  # type: ignore[var-annotated]
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        ours, theirs = sides[0].get(key, []), sides[1].get(key, [])
        both = min(len(ours), len(theirs))
        pairs += [agreement(one, other) for one, other in zip(ours, theirs, strict=False)]
        only[0].extend(ours[both:])
        only[1].extend(theirs[both:])
    if not pairs:
        said = "No verdict of A and none of B are on the same task, as it is now, and the same patch."
        raise OmniPerfError(said, "Measure one side again with `omniperf verify A --out FOLDER`.")
    return Comparison(tuple(pairs), tuple(only[0]), tuple(only[1]), _differences(pairs))


def agreement(a: Verification, b: Verification) -> Agreement:
    """Compare two verdicts on one patch.

    They disagree where their classes conflict or their 95 % intervals have no speedup in common. `inconclusive` is in
    conflict with no class that comes from timing, and the others only agree with themselves. The two are independent
    estimates, so the difference of their log speedups has the standard error sqrt(se_a^2 + se_b^2), each read off the
    width of a 95 % interval, 2 * 1.96 se (Altman and Bland, Interaction revisited: the difference between two
    estimates, BMJ 326:219, 2003).
    """
    classes = (a.verdict.class_, b.verdict.class_)
    why = []
    conflict = classes[0] != classes[1]
    if conflict and "inconclusive" in classes and all(class_ in _TIMED for class_ in classes):
        conflict = False
        why.append(f"{'A' if classes[0] == 'inconclusive' else 'B'} decided nothing")
    if conflict:
        why.append(f"{classes[0]} in A, {classes[1]} in B")
    one, other = a.verdict.speedup, b.verdict.speedup
    if one is None or other is None or not (_positive(one) and _positive(other)):
        return Agreement(a, b, None, None, not conflict, "; ".join(why))
    apart = max(one.interval.low, other.interval.low) > min(one.interval.high, other.interval.high)
    if apart:
        why.append("the 95 % intervals do not overlap")
    difference = math.log(other.speedup) - math.log(one.speedup)
    half = _Z * math.hypot(_standard_error(one), _standard_error(other))
    around = Interval(low=math.exp(difference - half), high=math.exp(difference + half), confidence=0.95)
    return Agreement(a, b, math.exp(difference), around, not (conflict or apart), "; ".join(why))


def _positive(estimate: Estimate) -> bool:
    """Whether there is anything to compute with: what others wrote may hold any number."""
    ends = (estimate.interval.low, estimate.speedup, estimate.interval.high)
    return 1e-9 < ends[0] <= ends[2] < 1e9 and 1e-9 < ends[1] < 1e9


def _standard_error(estimate: Estimate) -> float:
    """Of the log speedup."""
    return (math.log(estimate.interval.high) - math.log(estimate.interval.low)) / (2 * _Z)


def _of_attempt(result: Result) -> Verification:
    identity = result.identity
    return Verification(
        task_id=identity.task_id,
        task_sha256=identity.task_sha256,
        label=f"{identity.label}.{identity.n}",
        patch_sha256=result.patch.sha256 if result.patch else "",
        verdict=result.verdict,
        finished=result.finished,
        omniperf_version=identity.omniperf_version,
        environment=result.environment,
        sandbox=result.sandbox,
    )


def _differences(pairs: Sequence[Agreement]) -> dict[str, tuple[str, str]]:
    """The facts of the environments in which the two sides are not the same, by name."""
    found = {}
    facts = [[_facts(verdict) for verdict in side] for side in zip(*((pair.a, pair.b) for pair in pairs), strict=True)]
    for name in facts[0][0]:
        said = tuple(", ".join(dict.fromkeys(one[name] for one in side)) for side in facts)
        if said[0] != said[1]:
            found[name] = (said[0], said[1])
    return found


def _facts(of: Verification) -> dict[str, str]:
    """What can change a measurement, from `environment` as others may have written it."""
    facts = of.environment
    cpu: dict[str, Any] = facts["cpu"] if isinstance(facts.get("cpu"), dict) else {}
    listed = facts.get("gpus")
    gpus = [gpu for gpu in listed if isinstance(gpu, dict)] if isinstance(listed, list) else []
    packages = facts.get("task_packages") or facts.get("packages") or {}
    packages = packages if isinstance(packages, dict) else {}
    named = {
        "host": facts.get("host"),
        "system": facts.get("system"),
        "CPU": f"{cpu.get('model', 'unknown')}, {cpu.get('cores', '?')} cores",
        "GPU": ", ".join(str(gpu.get("name")) for gpu in gpus) or "none",
        "driver": ", ".join(dict.fromkeys(str(gpu.get("driver")) for gpu in gpus)) or "none",
        "torch": packages.get("torch", "none"),
        "triton": packages.get("triton", "none"),
        "Python": facts.get("task_python") or facts.get("python"),
        "sandbox": of.sandbox,
        "OmniPerf": of.omniperf_version,
    }
    return {name: str(value or "unknown") for name, value in named.items()}
