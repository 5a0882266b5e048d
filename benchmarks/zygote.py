"""Samples of a fresh interpreter and of a zygote side by side: what they cost, and what they measure.

    python -m benchmarks.zygote TASK [TASK ...] [--pairs 4]

For every task base is measured against its own human patch (against itself where it has none), the same number of pairs
in both ways, block by block in turn. Printed are the seconds a pair and the two ratios with their spread.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from omniperf.measure.arms import make_arm, on_lane, sealed
from omniperf.measure.bench import open_bench
from omniperf.measure.bytecode import add_bytecode
from omniperf.measure.clock import Timing, sample
from omniperf.measure.lanes import claimed, find_lanes
from omniperf.measure.zygote import Zygotes
from omniperf.results.events import ignore
from omniperf.settings import load_settings
from omniperf.tasks.load import load_task
from omniperf.verify.preflight import preflight
from omniperf.workspace.patch import parse


def measure(name: str, blocks: int) -> dict[str, object]:
    """Seconds a pair and log ratios, by the way that samples were started."""
    settings = load_settings({})
    bench = open_bench(load_task(name, settings), settings, ignore)
    proved = preflight(bench, ignore)
    found: dict[str, object] = {"task": name, "import_seconds": proved.import_seconds, "preload": len(proved.preload)}
    with (
        bench.tree("base") as base,
        bench.tree("human", bench.human_patch() or b"") as human,
        tempfile.TemporaryDirectory() as caches,
        Zygotes(bench.backend, proved.preload) as zygotes,
        claimed(find_lanes(bench.task.resources)) as lane,
    ):
        changed = [file.path for file in parse(bench.seal, bench.human_patch() or b"").files]
        for tree, files in ((base, []), (human, changed)):
            bench.build(tree)
            add_bytecode(bench, tree, proved.imported, files)
        export, common = proved.exported == "in the worker", (bench.task, bench.environment, bench.backend)
        made = [
            make_arm(arm, *common, tree, Path(caches), export=export)
            for arm, tree in (("base", base), ("human", human))
        ]
        for arm in made:  # compiles what is compiled when used
            sample(bench.backend, on_lane(arm, lane), bench.task, bench.kind, _seeds(2), Timing(1, 600.0))
        arms = [sealed(arm, lane) for arm in made]
        for _ in range(blocks):
            for way in ("fresh", "forked"):
                begun = time.perf_counter()
                zygote = zygotes.of_block(arms) if way == "forked" else None
                taken = [
                    sample(bench.backend, arms[which], bench.task, bench.kind, _seeds(9), Timing(4, 600.0), zygote)
                    for which in (0, 1, 1, 0)
                ]
                row = found.setdefault(way, {"seconds_a_pair": [], "ratios": [], "imported": []})
                row["seconds_a_pair"].append((time.perf_counter() - begun) / 2)  # type: ignore[index]
                row["ratios"] += [taken[0].seconds / taken[1].seconds, taken[3].seconds / taken[2].seconds]  # type: ignore[index]
                row["imported"] += [one.imported for one in taken]  # type: ignore[index]
    return found


def _seeds(count: int) -> list[int]:
    return [secrets.randbits(63) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Fresh interpreters and forks of a zygote, side by side.")
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--pairs", type=int, default=4)
    arguments = parser.parse_args()
    for task in arguments.tasks:
        found = measure(task, arguments.pairs // 2)
        for way in ("fresh", "forked"):
            row = found[way]
            print(
                f"{task:24} {way:6} {statistics.median(row['seconds_a_pair']):6.2f} s a pair, "  # type: ignore[index]
                f"start and import {statistics.median(row['imported']):6.3f} s, "  # type: ignore[index]
                f"ratio {statistics.median(row['ratios']):.3f} ({min(row['ratios']):.3f} to {max(row['ratios']):.3f})"  # type: ignore[index]
            )
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
