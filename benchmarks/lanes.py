"""Many agents on one lane: what waiting for a model lets overlap, and that what is timed never does.

    python -m benchmarks.lanes [--agents 8] [--steps 30] [--model 2] [--bench 0.5] [--every 3] [--speed 1] [--write]

A simulation with real processes, real lanes and real timings, without models and sandboxes. An agent is a process that
takes so many steps: each waits as long as a model would take, and every third then holds the lane as long as a
benchmark takes, in pairs ABBA of one fixed loop against itself, timed on the lane's core. It is first run by one agent
after another, then by all at once. Every timed region is a line of a log, with CLOCK_MONOTONIC at its begin and end;
the log alone says whether two overlap, and how wide the 90 % interval (Hodges-Lehmann) of each benchmark's ratio is.

`--speed 10` takes a tenth of the steps; times stay as they are. With a benchmark after
every step the lane alone would take 8 x 30 x 0.5 = 120 s, and no scheduler could be more than five times as fast as one
agent after another.
`--write` makes benchmarks/evidence/lanes.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from omniperf.measure.lanes import claimed, find_lanes
from omniperf.measure.statistics import hl_interval
from omniperf.tasks.schema import Resources

PAIRS, ORDER = 6, "ABBABAABABBA"


def loop(turns: int) -> int:
    """What is timed."""
    total = 0
    for n in range(turns):
        total += n & 7
    return total


def turns_for(seconds: float) -> int:
    """How many turns of the loop take that long here."""
    turns, took = 1000, 0.0
    while took < seconds:
        turns = int(turns * 2)
        began = time.perf_counter()
        loop(turns)
        took = time.perf_counter() - began
    return max(1, int(turns * seconds / took))


def agent(steps: int, model: float, every: int, turns: int, log: Path) -> None:
    """One agent's work. Lines of the log are whole, each being one short write."""
    (lane, *_), anywhere = find_lanes(Resources()), os.sched_getaffinity(0)
    for step in range(1, steps + 1):
        time.sleep(model)
        if step % every:
            continue
        with claimed((lane,)), log.open("ab", buffering=0) as file:
            os.sched_setaffinity(0, lane.cores)
            seconds: dict[str, list[float]] = {"A": [], "B": []}
            began = time.monotonic()
            for letter in ORDER:
                start = time.perf_counter()
                loop(turns)
                seconds[letter].append(time.perf_counter() - start)
            ended = time.monotonic()
            os.sched_setaffinity(0, anywhere)
            ratios = [math.log(a / b) for a, b in zip(seconds["A"], seconds["B"], strict=True)]
            low, high = hl_interval(ratios, 0.90)
            record = {"agent": os.getpid(), "lane": lane.name, "began": began, "ended": ended, "width": high - low}
            file.write(json.dumps(record).encode() + b"\n")


def started(*work: Any) -> int:
    """A process that is one agent."""
    if not (pid := os.fork()):
        code = 1
        try:
            agent(*work)
            code = 0
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> None:
    """Wait for it. Raises SystemExit where it failed."""
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("an agent failed")


def overlaps(regions: list[dict[str, Any]]) -> int:
    """How many timed regions begin before one that began earlier has ended."""
    regions = sorted(regions, key=lambda one: one["began"])
    return sum(after["began"] < before["ended"] for before, after in pairwise(regions))


def main() -> None:
    """Run the agents one after another, then at once; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", type=float, default=2.0)
    parser.add_argument("--bench", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--write", action="store_true", help="write benchmarks/evidence/lanes.md")
    given = parser.parse_args()
    steps, model = max(given.every, round(given.steps / given.speed)), given.model
    (lane, *_), anywhere = find_lanes(Resources()), os.sched_getaffinity(0)
    with claimed((lane,)):
        os.sched_setaffinity(0, lane.cores)
        turns = turns_for(given.bench / (2 * PAIRS))
        os.sched_setaffinity(0, anywhere)
    load, walls, logs = os.getloadavg()[0], [], []
    with tempfile.TemporaryDirectory(prefix="omniperf-lanes-") as scratch:
        for at_once in (1, given.agents):
            log, began = Path(scratch, f"{at_once}.jsonl"), time.monotonic()
            work = (steps, model, given.every, turns, log)
            for _ in range(given.agents // at_once):
                for pid in [started(*work) for _ in range(at_once)]:
                    ended(pid)
            walls.append(time.monotonic() - began)
            logs.append([json.loads(line) for line in log.read_text().splitlines()])
            print(f"{at_once} at once: {walls[-1]:.1f} s", file=sys.stderr)
    rows = []
    for name, wall, regions in zip(("one after another", "all at once"), walls, logs, strict=True):
        held = sum(one["ended"] - one["began"] for one in regions)
        widths = [100 * one["width"] for one in regions]
        rows.append(
            f"| {name} | {wall:.1f} | {len(regions)} | {held / wall:.0%} | {held / len(regions):.2f} "
            f"| {overlaps(regions)} | {statistics.median(widths):.2f} % | {statistics.quantiles(widths)[2]:.2f} % |"
        )
    found = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {len(anywhere)} cores, load before {load:.1f}. "
        f"{given.agents} agents, {steps} steps, "
        f"model {model:g} s a step, a benchmark of {given.bench:g} s after every {given.every}. step, "
        f"lane {lane.name}.\n\n"
        "| | wall s | timed regions | of the time the lane is timed on | s a region | regions that overlap "
        "| interval's width, median | upper quartile |\n|---|---:|---:|---:|---:|---:|---:|---:|\n"
        + "\n".join(rows)
        + f"\n\nAll at once: {walls[0] / walls[1]:.2f} times as fast.\n"
    )
    print(found)
    assert not any(map(overlaps, logs)), "timed regions overlap"
    if given.write:
        path = Path(__file__).resolve().parent / "evidence" / "lanes.md"
        path.write_text(f"# Many agents on one lane\n\n`python -m benchmarks.lanes`\n\n{found}")


if __name__ == "__main__":
    main()
