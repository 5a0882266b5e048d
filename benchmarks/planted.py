"""Planted truth: patches whose speedup is known exactly, measured as a verdict measures them, on this machine.

    python -m benchmarks.planted FILE.jsonl [--runs 200] [--hog] [--seed 1]

Every run is a `measure_pairs` of its own, from the warm-up to the decision; what else a verdict asks of a patch (tests,
outputs of other states) is left out, since these patches have nothing to fear from it. The workload repeats one step of
pure-Python arithmetic; a patch makes it 0, 1, 2, 5, 10 or 20 % fewer or more steps, with the same outputs. A step costs
the same wherever it is, so base's steps over the candidate's are the true speedup, but for the 0.1 to 0.3 ms that the
clock itself takes of a sample of 0.1 s. With `--hog` half of the runs have a busy process beside them, on the core that
no lane has: the harness and its clock have to share that one.

Each run appends one line to FILE, so that it can be stopped at any time and goes on where it was. The table at the end
is of all lines.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.measure.arms import make_arm
from omniperf.measure.bench import open_bench
from omniperf.measure.bytecode import add_bytecode
from omniperf.measure.pairs import Plan, measure_pairs
from omniperf.results.events import ignore
from omniperf.settings import load_settings
from omniperf.tasks.load import load_task
from omniperf.verify.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.measure.clock import Arm

MORE_STEPS = (-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)
"""Steps of the candidate beyond base's, in percent of them."""

STEPS, NEEDED = 200_000, 100_000  # of base, about 10 ms; those that make the output
TREE = """\
STEPS = {steps}


def spin(x, steps):
    for _ in range(steps):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


def work(seed):
    kept = spin(seed, {needed})
    spin(kept, STEPS - {needed})
    return kept
"""
WORKLOAD = """\
from work import work


def setup(seed):
    return seed & 0x7FFFFFFF


def run(state):
    return work(state)
"""
TASK = """\
schema: omniperf/task/v1
id: planted
title: Planted truth
repo: {path: repo}
environment: {pythonpath: ["."]}
targets: ["work.py"]
workload: workload.py
"""


def patch(more: int) -> bytes:
    """The diff that makes `more` percent more steps; for zero it writes a sum: a patch has to change something."""
    steps = STEPS + STEPS * more // 100
    trees = [TREE.format(steps=found, needed=NEEDED) for found in (STEPS, steps if more else f"{STEPS} + 0")]
    base, candidate = (tree.splitlines(keepends=True) for tree in trees)
    return "".join(difflib.unified_diff(base, candidate, "a/work.py", "b/work.py")).encode()


def truth(more: int) -> float:
    """The speedup of such a patch."""
    return 100 / (100 + more)


def schedule(runs: int, seed: int, *, hog: bool) -> list[tuple[int, bool]]:
    """Percent and hog of each run: every size, with and without the hog, once a round in random order."""
    draw, cells = random.Random(seed), list(itertools.product(MORE_STEPS, (False, True) if hog else (False,)))
    rounds = itertools.chain.from_iterable(draw.sample(cells, len(cells)) for _ in range(runs))
    return list(itertools.islice(rounds, runs))


@contextmanager
def hogged(wanted: bool) -> Iterator[None]:
    """A busy process on the lowest core, which no lane of one core has."""
    if not wanted:
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(busy.pid, {min(os.sched_getaffinity(0))})
        yield
    finally:
        busy.kill()
        busy.wait()


def read(file: Path) -> list[dict[str, Any]]:
    """The runs so far; the torn line of one that was killed while it was written is taken off the file."""
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def measure(file: Path, planned: list[tuple[int, bool]]) -> None:
    """Do the runs of the plan that the file does not have yet."""
    done = len(read(file))
    with tempfile.TemporaryDirectory(prefix="omniperf-planted-") as scratch:
        home = Path(scratch)
        (home / "task" / "repo").mkdir(parents=True)
        (home / "task" / "repo" / "work.py").write_text(TREE.format(steps=STEPS, needed=NEEDED))
        (home / "task" / "workload.py").write_text(WORKLOAD)
        (home / "task" / "task.yaml").write_text(TASK)
        settings = load_settings({name: home / name for name in ("results", "worktrees", "cache", "tasks")})
        bench = open_bench(load_task(str(home / "task"), settings), settings, ignore)
        proved = preflight(bench, ignore)
        with ExitStack() as stack:

            def arm(name: str, data: bytes) -> Arm:
                tree = stack.enter_context(bench.tree(name, data))
                add_bytecode(bench, tree, proved.imported, ["work.py"] if data else [])
                return make_arm(name, bench.task, bench.environment, bench.backend, tree, home)

            base, candidates = arm("base", b""), {more: arm("candidate", patch(more)) for more in MORE_STEPS}
            comparer = stack.enter_context(proved.comparer(bench, base))
            for number, (more, hog) in enumerate(planned[done:], done):
                load, plan = os.getloadavg()[0], Plan(bench.task.measure, secrets.token_bytes(32), "planted")
                with hogged(hog):
                    pairs = measure_pairs(
                        bench.backend, bench.task, bench.kind, base, candidates[more], plan, comparer,
                        lambda _: None, ignore,
                    )  # fmt: skip
                look = pairs.decision or pairs.last_look
                row = {
                    "run": number,
                    "more_steps_percent": more,
                    "truth": truth(more),
                    "hog": hog,
                    "load_before": load,
                    "class": pairs.decision.state if pairs.decision else "inconclusive",
                    "discarded": pairs.discarded,
                    "sample_seconds": [round(one.seconds, 4) for one in (*pairs.base, *pairs.candidate)],
                    "lane_seconds": pairs.lane_seconds,
                    "estimate": look.estimate.model_dump(mode="json") if look else None,
                }
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                said = f"{look.estimate.speedup:.3f}x after {look.estimate.pairs} pairs" if look else pairs.stopped
                beside = " beside a hog" if hog else ""
                print(f"{number + 1}/{len(planned)} {more:+d} % steps{beside}: {row['class']}, {said}", flush=True)


def covers(row: dict[str, Any], name: str) -> bool:
    """Whether an interval of the row's estimate holds the truth."""
    interval = row["estimate"][name]
    return float(interval["low"]) <= row["truth"] <= float(interval["high"])


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table, by size and hog, and a last line for all."""
    print("\n| steps | true speedup | hog | runs | 95 % interval covers | claim covers | mean pairs | verdicts |\n"
          "|---:|---:|---|---:|---:|---:|---:|---|")  # fmt: skip
    for more, hog in [*itertools.product(MORE_STEPS, (False, True)), (None, None)]:
        mine = [row for row in rows if more is None or (row["more_steps_percent"], row["hog"]) == (more, hog)]
        if not mine:
            continue
        seen = [row for row in mine if row["estimate"]]
        covered = [sum(covers(row, name) for row in seen) for name in ("interval", "claim")]
        pairs = sum(row["estimate"]["pairs"] for row in seen) / len(seen) if seen else 0.0
        classes = ", ".join(f"{count} {name}" for name, count in Counter(row["class"] for row in mine).most_common())
        size = ("all", "", "") if more is None else (f"{more:+d} %", f"{truth(more):.4f}", "yes" if hog else "no")
        counts = (str(len(mine)), *(f"{count}/{len(seen)}" for count in covered), f"{pairs:.1f}", classes)
        print(f"| {' | '.join((*size, *counts))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Verdicts on patches whose true speedup is known.")
    parser.add_argument("file", type=Path, help="where runs are appended, one JSON object a line")
    parser.add_argument("--runs", type=int, default=200, help="in all, those that the file has included")
    parser.add_argument("--hog", action="store_true", help="half of the runs beside a busy process")
    parser.add_argument("--seed", type=int, default=1, help="of the order; keep it to continue a file")
    arguments = parser.parse_args()
    try:
        measure(arguments.file, schedule(arguments.runs, arguments.seed, hog=arguments.hog))
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on")
    show(read(arguments.file))


if __name__ == "__main__":
    main()
