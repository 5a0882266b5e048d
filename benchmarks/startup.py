"""Start-up: `omniperf --help` beside a bare interpreter, and the cost of imports, in one run.

usage: python -m benchmarks.startup [--rounds N]

Commands are interleaved round by round, so that a change of the machine's speed meets all of them alike.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time

OMNIPERF = shutil.which("omniperf", path=str(sys.prefix) + "/bin") or "omniperf"
COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    "omniperf --help": [OMNIPERF, "--help"],
    "omniperf --version": [OMNIPERF, "--version"],
    "omniperf run --help": [OMNIPERF, "run", "--help"],
    "omniperf agents --json": [OMNIPERF, "agents", "--json"],
    "omniperf tasks list --json": [OMNIPERF, "tasks", "list", "--json"],
}


def main() -> None:
    """Time every command in turn and print minimum, median and the ratio of medians to the bare interpreter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds[name].append(time.perf_counter() - started)
    bare = statistics.median(seconds["bare interpreter"])
    print("| command | min ms | median ms | x bare |\n|---|---:|---:|---:|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {1000 * min(values):.1f} | {1000 * median:.1f} | {median / bare:.1f} |")


if __name__ == "__main__":
    main()
