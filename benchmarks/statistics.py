"""How often does the verdict lie, how often does it see a real speedup, and what does it cost? Against two usual rules.

    python -m benchmarks.statistics [--reps 2000] [--seed 1]

(As a module: run as a file, it would stand in for the standard library's `statistics`.)

Simulated is the logarithm of one process's time, the sum of normal jitter, an Ornstein-Uhlenbeck drift of the host with
the jitter's SD and a memory of 15 runs, a cold start of 2 % that fades over 2 runs, and one-sided outliers (3 % plus an
exponential of mean 15 %). OmniPerf's row calls `decide` itself at every look, with the order of the arms from
`arm_order` and two warm-up runs thrown away. The other two time all of the base, rebuild (10 runs' worth of drift),
then all of the candidate, and compare the means: the habit of most harnesses, and the win rule of GSO (Shetty et al.
2025: five runs an arm, and a mean speedup that rounds to 1.2 counts, so 1.15 does).
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omniperf.measure.order import arm_order
from omniperf.measure.statistics import LOOKS, Decision, decide
from omniperf.tasks.schema import Measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

EFFECTS = (0.0, 0.05, 0.10)
WARM_UP_RUNS = 2
BLOCK_RUNS = 5
REBUILD_RUNS = 10
MEASURE = Measure(confidence=0.99, margin=0.01, min_effect=0.03, max_minutes=5)


@dataclass(frozen=True)
class Host:
    """A host's noise: the SD of jitter and of drift (log units), and the share of runs that are outliers."""

    name: str
    sd: float
    outliers: float

    def log_times(self, rng: np.random.Generator, runs: int) -> NDArray[np.float64]:
        """Log times of `runs` consecutive processes of the same code, from a cold start; shape `(runs,)`."""
        keep = np.exp(-1 / 15)
        shocks = rng.normal(0, self.sd, runs)
        shocks[1:] *= np.sqrt(1 - keep**2)
        drift = np.fromiter(itertools.accumulate(shocks, lambda level, shock: keep * level + shock), float, runs)
        cold = 0.02 * np.exp(-np.arange(runs) / 2)
        slow = (rng.random(runs) < self.outliers) * (0.03 + rng.exponential(0.15, runs))
        return drift + cold + slow + rng.normal(0, self.sd, runs)


HOSTS = (Host("quiet 1 %", 0.01, 0.02), Host("typical 2 %", 0.02, 0.05), Host("noisy 5 %", 0.05, 0.10))


def omniperf(rng: np.random.Generator, host: Host, effect: float) -> Decision:
    """One attempt's verdict: measure to the next look, decide, until the decision is final."""
    secret = rng.bytes(32)
    orders = "".join(arm_order(secret, "simulated", block) for block in range(LOOKS[-1] // 2))
    candidate_first = np.array([first == "B" for first in orders[::2]])
    runs = host.log_times(rng, WARM_UP_RUNS + 2 * LOOKS[-1])[WARM_UP_RUNS:].reshape(-1, 2)
    d = np.where(candidate_first, runs[:, 1] - runs[:, 0], runs[:, 0] - runs[:, 1]) + np.log1p(effect)
    decisions = (decide(d[:look].tolist(), MEASURE) for look in LOOKS)
    return next(decision for decision in decisions if decision.state != "continue")


def block_speedup(rng: np.random.Generator, host: Host, effect: float) -> float:
    """Mean time of the base's runs over mean time of the candidate's, each arm timed in one go."""
    times = np.exp(host.log_times(rng, 2 * BLOCK_RUNS + REBUILD_RUNS))
    return float(times[:BLOCK_RUNS].mean() / times[-BLOCK_RUNS:].mean() * (1 + effect))


def report(reps: int, seed: int) -> None:
    print(f"{reps} attempts a cell, seed {seed}; OmniPerf at confidence 0.99, margin 1 %, min_effect 3 %")
    print("| host | true effect | rule | improved | no change | regressed | inconclusive | mean pairs |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for host, effect in itertools.product(HOSTS, EFFECTS):
        rng = np.random.default_rng(seed)
        decisions = [omniperf(rng, host, effect) for _ in range(reps)]
        states = Counter(decision.state for decision in decisions)
        shares = " | ".join(
            f"{states[state] / reps:.2%}" for state in ("improved", "no_change", "regressed", "inconclusive")
        )
        pairs = np.mean([decision.estimate.pairs for decision in decisions])
        print(f"| {host.name} | {effect:+.0%} | OmniPerf | {shares} | {pairs:.1f} |")
        speedups = np.array([block_speedup(rng, host, effect) for _ in range(reps)])
        for rule, threshold in (("mean of 5, 5 % threshold", 1.05), ("GSO-like: mean of 5, 15 %", 1.15)):
            wins = np.mean(speedups >= threshold)
            print(f"| {host.name} | {effect:+.0%} | {rule} | {wins:.2%} | | | | {BLOCK_RUNS} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Error rates, power and cost of the verdict, by simulation.")
    parser.add_argument("--reps", type=int, default=2000, help="simulated attempts a cell")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report(arguments.reps, arguments.seed)


if __name__ == "__main__":
    main()
