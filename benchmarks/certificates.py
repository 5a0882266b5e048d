"""Certificates as a table: what each task can show on a host, and what the rule costs beside a fixed number of pairs.

    omniperf tasks certify TASK --fixed-pairs 30 --out FOLDER
    python -m benchmarks.certificates FOLDER > TABLE.md

Device seconds are those that the lane was held for: of a verdict with all its checks, of the fixed pairs with none.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.results.certificate import Certificate

if TYPE_CHECKING:
    from omniperf.results.schema import Verdict

HEAD = (
    "| task | metric | noise floor | null patch | device s | human patch | claim | pairs | device s | fixed pairs "
    "| device s |"
)


def measured(verdict: Verdict) -> str:
    """A verdict's class, speedup and 95 % interval."""
    estimate = verdict.speedup
    if estimate is None:
        return verdict.class_
    low, high = estimate.interval.low, estimate.interval.high
    return f"{verdict.class_} {estimate.speedup:.3f}x ({low:.3f} to {high:.3f})"


def row(found: Certificate) -> str:
    """A certificate as a line of the table."""
    human, fixed = found.human, found.fixed_pairs
    cells = [
        found.task_id,
        found.calibration.metric,
        f"{abs(found.calibration.noise.floor):.2%}",
        measured(found.null),
        f"{found.null.cost.lane_seconds:.0f}",
    ]
    if human is not None and human.speedup is not None:
        claim = human.speedup.claim
        edge = f"at least {claim.low:.3f}x" if claim.low > 1 else f"at most {claim.high:.3f}x" if claim.high < 1 else ""
        cells += [measured(human), edge, str(human.speedup.pairs), f"{human.cost.lane_seconds:.0f}"]
    else:
        cells += [""] * 4
    if fixed is not None:
        interval = f"({fixed.interval.low:.3f} to {fixed.interval.high:.3f})"
        cells += [f"{fixed.pairs}: {fixed.speedup:.3f}x {interval}", f"{fixed.lane_seconds:.0f}"]
    else:
        cells += [""] * 2
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table of all certificates below a folder, with the devices they hold for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    files = sorted(parser.parse_args().folder.rglob("*.json"))
    found = [Certificate.model_validate_json(file.read_bytes()) for file in files]
    print(HEAD, f"|{'---|' * HEAD.count(' | ')}---|", *map(row, found), sep="\n")
    for device in sorted({device.partition(" ")[2] for one in found for device in one.calibration.device}):
        print(f"\nOn {device}.")


if __name__ == "__main__":
    main()
