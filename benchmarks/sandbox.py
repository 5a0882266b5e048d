"""What a sandbox costs, beside what nobody can do without, in pairs of one run.

usage: python -m benchmarks.sandbox [--rounds N]

Starting: a standing sandbox, as an agent has it, until it takes commands; beside it, bubblewrap with the same walls
that runs `true`, and the task's Python doing nothing. A command: `true` in a sandbox that stands; beside it, the same
shell forked and executed on the host. Each round runs all of them, in random order.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.workspace import make
from omniperf.measure.bench import open_bench
from omniperf.results.events import ignore
from omniperf.sandbox.standing import StandingSandbox
from omniperf.settings import load_settings
from omniperf.tasks.load import load_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.sandbox.spec import Backend, Spec


def floor(backend: Backend, spec: Spec) -> None:
    """The walls alone."""
    process = backend.start(spec, ["/bin/true"], {})
    process.communicate()
    assert process.returncode == 0


def plain(*command: str) -> None:
    """Fork, execute, wait, and take the output."""
    subprocess.run(command, capture_output=True, check=True, env={})


def start(backend: Backend, spec: Spec, kept: list[StandingSandbox]) -> None:
    """A standing sandbox, ready."""
    kept.append(StandingSandbox(backend, spec))


def timed(action: Callable[[], object]) -> float:
    """Wall milliseconds of a call."""
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Run everything in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        make(folder, 500)
        settings = load_settings({"cache": Path(scratch) / "cache", "worktrees": Path(scratch) / "worktrees"})
        bench = open_bench(load_task(str(folder), settings), settings, ignore)
        workspace = bench.workspace("agent")
        spec = bench.spec(workspace, agent=True)
        standing: list[StandingSandbox] = []
        python = str(bench.environment.interpreter.executable)
        with StandingSandbox(bench.backend, bench.spec(bench.workspace("other"), agent=True)) as sandbox:
            actions: dict[str, Callable[[], object]] = {
                "python -S, doing nothing": partial(plain, python, "-I", "-S", "-c", "pass"),
                "bubblewrap, `true`": partial(floor, bench.backend, spec),
                "standing sandbox": partial(start, bench.backend, spec, standing),
                "command on the host": partial(plain, "/bin/bash", "-c", "true"),
                "command inside": partial(sandbox.run, "true", 10),
            }
            rows: dict[str, list[float]] = {name: [] for name in actions}
            for _ in range(rounds):
                for name in random.sample(list(actions), len(actions)):
                    rows[name].append(timed(actions[name]))
                    while standing:
                        standing.pop().close()
            workspace.remove()
    print("| what | min ms | median ms | 90th percentile |\n|---|---:|---:|---:|")
    for name, values in rows.items():
        tenth = statistics.quantiles(values, n=10)[-1]
        print(f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} | {tenth:.2f} |")
    more = [inside - host for inside, host in zip(rows["command inside"], rows["command on the host"], strict=True)]
    walls = [ours - bare for ours, bare in zip(rows["standing sandbox"], rows["bubblewrap, `true`"], strict=True)]
    print(
        f"\nMedian of the differences: a command inside takes {statistics.median(more):.2f} ms more than on the host; a"
    )
    print(f"standing sandbox {statistics.median(walls):.2f} ms more than its walls.")


if __name__ == "__main__":
    main()
