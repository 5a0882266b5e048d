"""A sweep that is killed at random moments, and resumed each time, comes to what an undisturbed one comes to.

CHAOS="60 50 1" pytest tests/chaos        (attempts, kills, seed of the moments)
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.results.store import load_result, read_lines
from tests.sweep.commands import Sweeps

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

ATTEMPTS, KILLS, SEED = (int(part) for part in os.environ.get("CHAOS", "16 8 7").split())
SWEEP = """\
schema: omniperf/sweep/v1
tasks: [{task}]
agents: [oracle, "null"]
attempts: {attempts}
verify: false
"""


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that work below a folder, or that hold something of it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            held = [str(one.readlink()) for one in (process / "fd").iterdir()]
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(str(folder) in text for text in (line, *held)):
            found.append(line)
    return found


def patches(run: Path) -> dict[str, bytes]:
    """Each attempt's patch, by its folder."""
    return {
        str(file.parent.relative_to(run)): (file.parent / "model_patch.diff").read_bytes()
        for file in run.glob("*/*/result.json")
    }


@pytest.fixture
def sweeps(settings: Settings, tmp_path: Path, bubblewrap: None) -> Sweeps:
    return Sweeps(settings, tmp_path)


def test_a_sweep_that_is_killed_over_and_over_loses_nothing(
    sweeps: Sweeps, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task = make_task()
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(task=task.folder, attempts=ATTEMPTS // 2))
    whole = json.loads(sweeps.run("sweep", str(file), "--jobs", "4", "--json"))
    wanted = patches(Path(whole["folder"]))
    assert len(wanted) == whole["finished"] == ATTEMPTS

    draw = random.Random(SEED)
    process, killed = sweeps.start("sweep", str(file), "--jobs", "4", "--json"), 0
    run = None
    while process.poll() is None:
        if killed < KILLS:
            time.sleep(draw.uniform(0.2, 1.0))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
        process.communicate()
        later = [one for one in sweeps.settings.results.iterdir() if one.name != Path(whole["folder"]).name]
        if not later:  # it was killed before it had a plan
            process = sweeps.start("sweep", str(file), "--jobs", "4", "--json")
            continue
        (run,) = later
        if process.returncode:
            process = sweeps.start("resume", run.name, "--jobs", "4", "--json")
    assert run is not None
    assert process.returncode == 0
    assert killed >= 3
    assert patches(run) == wanted
    identities = [load_result(file).identity for file in run.glob("*/*/result.json")]
    assert len({(one.task_id, one.label, one.n) for one in identities}) == len(identities) == ATTEMPTS
    assert len(list(read_lines(run / "predictions.jsonl"))) == ATTEMPTS
    assert json.loads((run / "summary.json").read_text())["verdicts"] == {"unverified": ATTEMPTS}
    time.sleep(0.5)
    assert processes_of(tmp_path) == []
    sweeps.run("clean")
    assert not sweeps.settings.worktrees.exists() or not any(sweeps.settings.worktrees.iterdir())
    records = sweeps.settings.cache.glob("seals/*/worktrees/*/gitdir")  # the cache is other tests' too
    assert [one for one in records if one.read_text().startswith(str(sweeps.settings.worktrees))] == []
    assert not list(sweeps.settings.results.rglob("*.tmp"))
