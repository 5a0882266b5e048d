"""Start a task: a task file with every common key explained, and what its workload needs to fill in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from omniperf.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

UNFILLED_URL, UNFILLED_BASE = "https://github.com/OWNER/NAME", "0" * 40
"""What the file says of its repository until somebody fills it in."""

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

{workload}
# Must pass before and after the patch.
tests: ["python -m pytest -q tests"]

#resources: {{gpus: 0, cpus: 1, memory_gib: 4}}
#limits: {{steps: 40, minutes: 30, usd: 5.0}}
#measure: {{min_effect: 0.03, margin: 0.01, confidence: 0.99, max_minutes: 5}}
#hints: {{notes: ["The time is spent in ..."]}}
#constraints: ["No change of the public API"]
"""

_MODULE = """\
# What is timed: a file beside this one.
workload: workload.py
#metrics:
#  - {name: latency, unit: s, direction: lower, primary: true}
#  - {name: peak_memory, unit: MiB, direction: lower, guard: 1.05}    # may not grow by more than 5 %
"""

_COMMAND = """\
# What is timed: a command, run from the tree without a shell, from its start to its exit. {seed} becomes a number that
# is new for every sample, and is in OMNIPERF_SEED too; what it prints must depend on that and on nothing else.
workload:
  command: "python -m package.cli --seed {seed}"
  #files: [input.json]                    # files beside this one that it finds as /omniperf/NAME
  #ready: {regex: "^ready"}               # what it prints when start-up is over; for the metric startup
  #reach: none                            # where it is not Python: whether it runs the targets is then not checked
metrics:
  - {name: latency, unit: s, direction: lower, primary: true}
#  - {name: startup, unit: s, guard: 1.05}    # may not take more than 5 % longer
#  - {name: rate, unit: items/s, direction: higher, from: {regex: "Rate: ([0-9.]+)"}}    # shown, never believed
"""

_SERVICE = """\
# What is timed: a server, run from the tree without a shell, under a load generator: load.py beside this file, which
# never sees the tree. The two share a network of their own.
workload:
  serve: "python -m package.server --port {port}"
  load: load.py
  #args: ["--requests", "200"]            # of load.py
  #files: [config.json]                   # files beside this one that server and load generator find as /omniperf/NAME
  #ready: {port: true, seconds: 60}       # or {regex: ...}, what the server prints when it is ready
  #outputs: none                          # load.py reports no `outputs`: then only the tests say what is correct
  #reach: none                            # where it is not Python: whether it runs the targets is then not checked
metrics:                                  # latency is the time of load.py; startup that until the server is ready
  - {name: throughput, unit: req/s, direction: higher, primary: true}    # read from what load.py prints
  - {name: p50, unit: ms, direction: lower, guard: 1.05, from: {json: latency_ms.p50}}
  - {name: startup, unit: s, guard: 1.2}
"""

_LOAD = '''\
"""The load generator of {id}: it sends requests that depend on the seed alone, and prints one JSON object at its end.

In the object: `completed`, the number of requests that were answered, which must be base's; `outputs`, anything that
depends on all answers, which must be base's too; and the figures that the task's metrics name.
"""

import hashlib
import json
import os
import random
import time
import urllib.request

REQUESTS, WARM_UP = 100, 10

url = "http://127.0.0.1:" + os.environ["OMNIPERF_PORT"]
rng = random.Random(int(os.environ["OMNIPERF_SEED"]))
digest, seconds = hashlib.sha256(), []
for number in range(REQUESTS):
    began = time.perf_counter()
    with urllib.request.urlopen(f"{{url}}/?x={{rng.randrange(10**9)}}") as answer:  # raises unless the status is 2xx
        digest.update(answer.read())
    if number >= WARM_UP:
        seconds.append(time.perf_counter() - began)
report = {{"completed": REQUESTS, "outputs": digest.hexdigest(), "throughput": len(seconds) / sum(seconds)}}
print(json.dumps({{**report, "latency_ms": {{"p50": 1000 * sorted(seconds)[len(seconds) // 2]}}}}))
'''

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


# What each kind adds to the task file, and the file beside it.
_KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "module": (_MODULE, {"workload.py": _WORKLOAD}),
    "command": (_COMMAND, {}),
    "service": (_SERVICE, {"load.py": _LOAD}),
}


def new_task(folder: Path, task_id: str, repo: Path | None = None, kind: str = "module") -> tuple[Path, ...]:
    """Write `task.yaml` and what a workload of that kind needs into a folder; return the paths. Never overwrites.

    With `repo`, a local git repository, the task starts from its HEAD. Raises UsageError.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", task_id):
        raise UsageError(
            f"{task_id!r} cannot be a task's id.",
            "Use lower-case letters, digits, dots, dashes and underscores; begin with a letter or digit.",
        )
    if kind not in _KINDS:
        raise UsageError(f"There is no kind {kind!r} to start from.", f"Use {', '.join(_KINDS)}.")
    workload, beside = _KINDS[kind]
    files = {folder / name: text for name, text in {"task.yaml": _TASK, **beside}.items()}
    for file in files:
        if file.exists() or file.is_symlink():
            raise UsageError(f"{file} is already there.", "Choose another id, or move it away.")
    source, base = _head_of(repo, folder) if repo is not None else (f"url: {UNFILLED_URL}", UNFILLED_BASE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text.format(id=task_id, source=source, base=base, workload=workload))
    except OSError as error:
        said = f"{folder} cannot be written ({error.strerror})."
        raise UsageError(said, "Name another folder with --tasks.") from None
    return tuple(files)


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
