"""Providing a sealed workspace beside a bare `git worktree add` of the same tree, in one run.

usage: python -m benchmarks.workspace [--rounds N] [--files N ...]

Also the cost of collecting a patch from it, and of starting its sandbox and a command inside.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.measure.bench import open_bench
from omniperf.results.events import ignore
from omniperf.sandbox.bubblewrap import why_not
from omniperf.sandbox.standing import StandingSandbox
from omniperf.settings import load_settings
from omniperf.tasks.load import load_task
from omniperf.workspace.patch import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.measure.bench import Bench
    from omniperf.workspace.worktree import Workspace

TASK = """\
schema: omniperf/task/v1
id: files
title: A tree of many files
repo: {path: repo}
targets: ["**/*.py"]
workload: workload.py
"""


def git(folder: Path, *arguments: str) -> str:
    """Run plain git."""
    done = subprocess.run(("git", "-C", str(folder), *arguments), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make(folder: Path, files: int) -> None:
    """A repository of that many Python files of 1 to 8 KiB in folders of 40."""
    rng = random.Random(1)
    repo = folder / "repo"
    for number in range(files):
        file = repo / f"package_{number // 40}" / f"module_{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"value_{n} = {rng.random()}\n" for n in range(rng.randrange(30, 250))))
    git(folder, "init", "-q", str(repo))
    git(repo, "add", "-A")
    git(repo, "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-q", "-m", "base")
    (folder / "task.yaml").write_text(TASK)
    (folder / "workload.py").write_text("def setup(seed): return seed\ndef run(state): return state\n")


def provide(bench: Bench, kept: list[Workspace]) -> None:
    """Make a workspace and keep it."""
    kept.append(bench.workspace("agent"))


def timed(action: Callable[[], object]) -> float:
    """Wall milliseconds of a call."""
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Interleave the peer and ours, and print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--files", type=int, nargs="+", default=[500, 4000])
    options = parser.parse_args()
    print("| files | git worktree add ms | sealed workspace ms | ratio | collect ms | sandbox ms | command ms |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for files in options.files:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "files"
            folder.mkdir()
            make(folder, files)
            settings = load_settings({"cache": Path(scratch) / "cache", "worktrees": Path(scratch) / "worktrees"})
            bench = open_bench(load_task(str(folder), settings), settings, ignore)
            rows: dict[str, list[float]] = {name: [] for name in ("peer", "ours", "collect", "sandbox", "command")}
            for number in range(options.rounds):
                peer = Path(scratch) / f"peer-{number}"
                add = ("worktree", "add", "-q", "--detach", str(peer), bench.seal.commit)
                workspaces = []
                actions = [
                    ("peer", partial(git, bench.seal.git_dir, *add)),
                    ("ours", partial(provide, bench, workspaces)),
                ]
                for name, action in actions if number % 2 else reversed(actions):
                    os.sync()  # or whoever comes second pays for the first one's dirty pages
                    rows[name].append(timed(action))
                workspace = workspaces[0]
                target = next(workspace.tree.rglob("*.py"))
                target.write_text(target.read_text() + "# edited\n")
                if not why_not():
                    began = time.perf_counter()
                    with StandingSandbox(bench.backend, bench.spec(workspace, agent=True)) as sandbox:
                        rows["sandbox"].append(1000 * (time.perf_counter() - began))
                        rows["command"].append(timed(partial(sandbox.run, "true", 10)))
                rows["collect"].append(timed(partial(collect, workspace)))
                workspace.remove()
                git(bench.seal.git_dir, "worktree", "remove", "--force", str(peer))
        median = {name: statistics.median(values) for name, values in rows.items() if values}
        print(
            f"| {files} | {median['peer']:.1f} | {median['ours']:.1f} | {median['ours'] / median['peer']:.2f} "
            f"| {median['collect']:.1f} | {median.get('sandbox', float('nan')):.1f} "
            f"| {median.get('command', float('nan')):.1f} |"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
