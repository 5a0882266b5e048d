"""Verify the human patch of every shipped task that can run here: honest work must raise no suspicion.

usage: python -m benchmarks.honest [TASK ...]

Prints class, speedup and findings of each. Exits with 1 where a patch has a finding that warns or rejects.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.arms import attempt
from omniperf.settings import load_settings
from omniperf.shipped import shipped
from omniperf.tasks.load import load_task


def with_human_patch() -> list[str]:
    """The shipped tasks that have one, by name."""
    settings = load_settings({})
    tasks = [load_task(str(file.parent), settings) for file in sorted(shipped("tasks").glob("*/task.yaml"))]
    return [task.id for task in tasks if task.repo and (task.repo.human or task.repo.human_patch)]


def suspicions(line: dict[str, object]) -> list[str]:
    """The findings of an attempt that warn or reject, as words."""
    findings = line.get("findings") or []
    assert isinstance(findings, list)
    return [f"{each['id']}: {each['message']}" for each in findings if each["severity"] in ("warn", "reject")]


def main() -> None:
    """Verify each and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="all that have a human patch, unless some are named")
    suspected, ran = 0, 0
    for task in parser.parse_args().tasks or with_human_patch():
        line = attempt(task, "oracle", 1)
        found = suspicions(line)
        suspected, ran = suspected + bool(found), ran + (line["class"] != "not run")
        speedup = f"{line['speedup']:.3f}x" if "speedup" in line else line["reason"]
        print(f"{task:34} {line['class']:13} {speedup}", *found, sep="\n    " if found else "  ", flush=True)
    print(f"{ran} verified, {suspected} with a finding that warns or rejects")
    sys.exit(1 if suspected or not ran else 0)


if __name__ == "__main__":
    main()
