"""Start a task: a task file with every common key explained, and a workload to fill in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from omniperf.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_TASK = """\
# One optimization problem. A key behind a # is optional and shows its default or an example; remove the # to set it.
# Check the file with: omniperf tasks validate {id}
schema: omniperf/task/v1
id: {id}
title: Speed up ...                    # one line, shown in lists
description: |
  What is slow, for whom, and why it matters. The agent reads this.
#tags: [cpu]

# Where the code comes from: exactly one of url, path (a folder or git repository, relative to this file), pypi.
repo:
  {source}
  base: "{base}"    # the commit the agent starts from
  #human: "1111111"                    # a commit that solves it, as a reference; the agent never sees it
  #omit: ["docs/**"]                   # files to leave out of the tree

environment:
  setup: ["pip install pytest"]             # once, with network: what the code and its tests need
#  python: ">=3.11"
  pythonpath: ["."]                         # folders of the tree to import from
#  build: []                                # after each patch, without network

# The only files that a patch may change (globs; ** crosses folders).
targets: ["src/package/module.py"]

# What is timed: a file beside this one.
workload: workload.py
#metrics:
#  - {{name: latency, unit: s, direction: lower, primary: true}}
#  - {{name: peak_memory, unit: MiB, direction: lower, guard: 1.05}}    # may not grow by more than 5 %

# Must pass before and after the patch.
tests: ["python -m pytest -q tests"]

#resources: {{gpus: 0, cpus: 1, memory_gib: 4}}
#limits: {{steps: 40, minutes: 30, usd: 5.0}}
#measure: {{min_effect: 0.03, margin: 0.01, confidence: 0.99, max_minutes: 5}}
#hints: {{notes: ["The time is spent in ..."]}}
#constraints: ["No change of the public API"]
"""

_WORKLOAD = '''\
"""The workload of {id}: what is timed.

`setup` is not timed. `run` is: it calls the code of the targets and returns plain data that depends on all of its work,
because a faster tree must return the same. Each call of `run` gets a fresh state from a fresh seed.
"""

import random


def setup(seed):
    """Make the input of one call, from nothing but the seed; import the package here."""
    rng = random.Random(seed)
    return [rng.random() for _ in range(1000)]


def run(state):
    """Do the work: replace this by a call of the targets that takes a millisecond or more."""
    return sorted(state)
'''


def new_task(folder: Path, task_id: str, repo: Path | None = None) -> tuple[Path, Path]:
    """Write `task.yaml` and `workload.py` into a folder and return their paths. Never overwrites: UsageError.

    With `repo`, a local git repository, the task starts from its HEAD.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", task_id):
        raise UsageError(
            f"{task_id!r} cannot be a task's id.",
            "Use lower-case letters, digits, dots, dashes and underscores; begin with a letter or digit.",
        )
    task_yaml, workload = folder / "task.yaml", folder / "workload.py"
    for file in (task_yaml, workload):
        if file.exists() or file.is_symlink():
            raise UsageError(f"{file} is already there.", "Choose another id, or move it away.")
    source, base = _head_of(repo, folder) if repo is not None else ("url: https://github.com/OWNER/NAME", "0" * 40)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in ((task_yaml, _TASK), (workload, _WORKLOAD)):
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text.format(id=task_id, source=source, base=base))
    return task_yaml, workload


def _head_of(repo: Path, folder: Path) -> tuple[str, str]:
    """The `repo` lines for a local repository: its path as the task file sees it, and its HEAD."""
    import json
    import os

    from git import Repo
    from git.exc import GitError, InvalidGitRepositoryError, NoSuchPathError

    try:
        with Repo(repo, search_parent_directories=True) as found:
            top, head = found.working_tree_dir or found.git_dir, found.head.commit.hexsha
    except (InvalidGitRepositoryError, NoSuchPathError):
        raise UsageError(f"{repo} is not in a git repository.", "Give a folder of one.") from None
    except (GitError, ValueError) as error:
        raise UsageError(f"{repo} has no commit to start from ({error}).", "Commit first.") from None
    return f"path: {json.dumps(os.path.relpath(top, folder))}", head
