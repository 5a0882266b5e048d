"""How often does the verdict lie, how often does it see a real speedup, and what does it cost? Against usual rules.

    python -m benchmarks.statistics [--reps 4000] [--seed 1] [--plot FILE.svg]

(As a module: run as a file, it would stand in for the standard library's `statistics`. `--plot` needs the extra
`bench`.)

Simulated is the logarithm of one process's time, the sum of normal jitter, an Ornstein-Uhlenbeck drift of the host with
the jitter's SD and a memory of 15 runs, a cold start of 2 % that fades over 2 runs, and one-sided outliers (3 % plus an
exponential of mean 15 %). OmniPerf's rows call `decide` itself at every look, with the order of the arms from
`arm_order` and two warm-up runs thrown away: its planned looks, and the confidence sequence. The other rules time all
of the base, rebuild (10 runs' worth of drift), then all of the candidate: the means of five runs with a threshold of
5 %, the habit of most harnesses; the win rule of GSO (Shetty et al. 2025: five runs an arm, and a mean speedup that
rounds to 1.2 counts, so 1.15 does); and the best of ten runs an arm with a threshold of 5 %.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omniperf.measure.order import arm_order
from omniperf.measure.statistics import Decision, decide, looks_of
from omniperf.tasks.schema import Measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10, 0.20)
WARM_UP_RUNS = 2
REBUILD_RUNS = 10
LOOKS = Measure(confidence=0.99, margin=0.01, min_effect=0.03)
SEQUENCE = LOOKS.model_copy(update={"rule": "sequence"})
OMNIPERF = {"OmniPerf, looks": LOOKS, "OmniPerf, sequence": SEQUENCE}
STATES = ("improved", "no_change", "regressed", "inconclusive")


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


@dataclass(frozen=True)
class Cell:
    """What became of a rule's attempts on one host at one effect: shares 0 to 1, `pairs` (runs an arm) a mean.

    `covered` is how often the reported 95 % interval held the truth; the other rules have none.
    """

    host: str
    effect: float
    rule: str
    shares: dict[str, float]
    pairs: float
    covered: float | None = None
    futile: float | None = None


def omniperf(rng: np.random.Generator, host: Host, effect: float, measure: Measure) -> Decision:
    """One attempt's verdict: measure to the next look, decide, until the decision is final."""
    secret = rng.bytes(32)
    most = measure.max_pairs
    orders = "".join(arm_order(secret, "simulated", block) for block in range(most // 2))
    candidate_first = np.array([first == "B" for first in orders[::2]])
    runs = host.log_times(rng, WARM_UP_RUNS + 2 * most)[WARM_UP_RUNS:].reshape(-1, 2)
    d = np.where(candidate_first, runs[:, 1] - runs[:, 0], runs[:, 0] - runs[:, 1]) + np.log1p(effect)
    decisions = (decide(d[:look].tolist(), measure) for look in looks_of(measure))
    return next(decision for decision in decisions if decision.state != "continue")


def blocks(rng: np.random.Generator, host: Host, effect: float, runs: int) -> NDArray[np.float64]:
    """The times of base's runs and of the candidate's, each arm timed in one go; shape `(2, runs)`."""
    times = np.exp(host.log_times(rng, 2 * runs + REBUILD_RUNS))
    return np.stack([times[:runs], times[-runs:] / (1 + effect)])


def simulate(host: Host, effect: float, reps: int, seed: int) -> list[Cell]:
    """Every rule's cell; each rule draws from the seed anew."""
    cells = []
    for rule, measure in OMNIPERF.items():
        rng = np.random.default_rng(seed)
        decisions = [omniperf(rng, host, effect, measure) for _ in range(reps)]
        states = Counter(decision.state for decision in decisions)
        intervals = [decision.estimate.interval for decision in decisions]
        cells.append(
            Cell(
                host.name,
                effect,
                rule,
                {state: states[state] / reps for state in STATES},
                float(np.mean([decision.estimate.pairs for decision in decisions])),
                float(np.mean([interval.low <= 1 + effect <= interval.high for interval in intervals])),
                float(np.mean([decision.futile for decision in decisions])),
            )
        )
    rng = np.random.default_rng(seed)
    means = np.array([base / other for base, other in (blocks(rng, host, effect, 5).mean(1) for _ in range(reps))])
    rng = np.random.default_rng(seed)
    best = np.array([base / other for base, other in (blocks(rng, host, effect, 10).min(1) for _ in range(reps))])
    for rule, speedups, threshold, runs in (
        ("mean of 5, 5 %", means, 1.05, 5),
        ("GSO-like: mean of 5, 15 %", means, 1.15, 5),
        ("best of 10, 5 %", best, 1.05, 10),
    ):
        cells.append(Cell(host.name, effect, rule, {"improved": float(np.mean(speedups >= threshold))}, runs))
    return cells


def show(cells: list[Cell]) -> None:
    """Print the table."""
    print("| host | true effect | rule | improved | no change | regressed | inconclusive | of it futile | mean pairs "
          "| 95 % interval covers |\n|---|---:|---|---:|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    for cell in cells:
        shares = [f"{cell.shares[state]:.2%}" if state in cell.shares else "" for state in STATES]
        more = ["" if share is None else f"{share:.2%}" for share in (cell.futile, cell.covered)]
        row = [cell.host, f"{cell.effect:+.0%}", cell.rule, *shares, more[0], f"{cell.pairs:.1f}", more[1]]
        print(f"| {' | '.join(row)} |")


def plot(cells: list[Cell], file: Path) -> None:
    """P(improved) and mean pairs against the effect, one column a host."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "omniperf", "font.size": 9})
    from matplotlib import pyplot

    rules = list(dict.fromkeys(cell.rule for cell in cells))
    figure, axes = pyplot.subplots(
        2, len(HOSTS), figsize=(10, 5), sharex=True, sharey="row", height_ratios=(2, 1), layout="constrained"
    )
    for column, host in enumerate(HOSTS):
        for rule in rules:
            mine = [cell for cell in cells if (cell.host, cell.rule) == (host.name, rule)]
            effects = [100 * cell.effect for cell in mine]
            style = "-" if rule in OMNIPERF else "--"
            axes[0][column].plot(effects, [cell.shares["improved"] for cell in mine], style, marker=".", label=rule)
            axes[1][column].plot(effects, [cell.pairs for cell in mine], style, marker=".")
        axes[0][column].set_title(host.name)
        axes[1][column].set_xlabel("true speedup, %")
    axes[0][0].set_ylabel("P(called improved)")
    axes[1][0].set_ylabel("mean pairs")
    axes[0][0].legend(fontsize=7)
    figure.savefig(file, metadata={"Date": None, "Creator": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Error rates, power and cost of the verdict, by simulation.")
    parser.add_argument("--reps", type=int, default=4000, help="simulated attempts a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    print(
        f"{arguments.reps} attempts a cell, seed {arguments.seed}; OmniPerf at confidence {LOOKS.confidence}, margin "
        f"{LOOKS.margin:.0%}, min_effect {LOOKS.min_effect:.0%}, at most {LOOKS.max_pairs} pairs\n"
    )
    asked = itertools.product(HOSTS, EFFECTS)
    cells = [cell for host, effect in asked for cell in simulate(host, effect, arguments.reps, arguments.seed)]
    show(cells)
    if arguments.plot:
        plot(cells, arguments.plot)


if __name__ == "__main__":
    main()
