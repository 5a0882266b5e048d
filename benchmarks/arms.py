"""Run control arms on shipped tasks and print what they are worth, as a table.

usage: python -m benchmarks.arms [--agents oracle null pattern] [--attempts N] [--out FILE.jsonl] TASK ...

Every attempt is a run of the installed command line, so this measures what a user gets. Each line of the output file is
one attempt; an existing file is continued, so that an interrupted run loses nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

FIELDS = ("task", "agent", "n", "class", "speedup", "low", "high", "pairs", "noise", "detectable", "wall", "lane")


def attempt(task: str, agent: str, n: int) -> dict[str, object]:
    """Run one attempt and keep what the table needs; an attempt that could not run says why."""
    started = time.monotonic()
    command = (sys.executable, "-m", "omniperf", "run", task, "--agent", agent, "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line: dict[str, object] = {"task": task, "agent": agent, "n": n, "seconds": time.monotonic() - started}
    if not done.stdout.strip():
        return {**line, "class": "not run", "reason": done.stderr.strip().splitlines()[-1]}
    result = json.loads(done.stdout)["attempts"][0]
    verdict, found = result["verdict"], result["verdict"]["speedup"]
    line |= {"class": verdict["class"], "reason": verdict["reason"], "outcome": result["outcome"]["kind"]}
    line |= {"wall": verdict["cost"]["wall_seconds"], "lane": verdict["cost"]["lane_seconds"]}
    line |= {"samples": verdict["cost"]["samples"], "findings": verdict["findings"], "patch": result["patch"]}
    if found:
        line |= {"speedup": found["speedup"], "low": found["interval"]["low"], "high": found["interval"]["high"]}
        line |= {"pairs": found["pairs"], "noise": found["noise"], "detectable": found["minimum_detectable_effect"]}
    return line


def shown(value: object) -> str:
    """A cell."""
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def table(lines: list[dict[str, object]]) -> str:
    """All attempts, and how many of each class."""
    rows = ["| " + " | ".join(FIELDS) + " |", "|" + "---|" * len(FIELDS)]
    rows += ["| " + " | ".join(shown(line.get(field)) for field in FIELDS) + " |" for line in lines]
    for agent in sorted({str(line["agent"]) for line in lines}):
        mine = [line for line in lines if line["agent"] == agent]
        classes = ", ".join(f"{count} {name}" for name, count in Counter(line["class"] for line in mine).most_common())
        walls = [float(str(line["wall"])) for line in mine if "wall" in line]
        cost = f"; {sum(walls) / len(walls):.1f} s a verdict" if walls else ""
        rows.append(f"\n{agent}: {len(mine)} attempts: {classes}{cost}")
    return "\n".join(rows)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--agents", nargs="+", default=["oracle", "null", "pattern"])
    parser.add_argument("--attempts", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("arms.jsonl"))
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    ran = {(line["task"], line["agent"], line["n"]) for line in lines}
    for n in range(1, options.attempts + 1):
        for agent in options.agents:
            for task in options.tasks:
                if (task, agent, n) in ran:
                    continue
                lines.append(attempt(task, agent, n))
                with options.out.open("a") as out:
                    out.write(json.dumps(lines[-1]) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
