"""A sweep on a disk that fills at random moments comes, resumed each time, to what one with room comes to.

CHAOS_DISKS="16 4 7" pytest tests/chaos        (attempts, how often it fills, seed of the moments)

The disk is a small tmpfs in a mount namespace of its own, which the command line enters too.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.results.store import load_result, read_lines
from tests.chaos.test_killed_sweeps import SWEEP, patches, processes_of
from tests.sweep.commands import Sweeps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

ATTEMPTS, FILLS, SEED = (int(part) for part in os.environ.get("CHAOS_DISKS", "8 1 7").split())
SIZE = "288m"  # a sandbox stops commands that write where less than 256 MiB are left
PATIENCE = 60.0  # seconds for which the disk is full at most, if the sweep does not end of it


class SmallDisk:
    """A tmpfs at `folder`, seen by those who enter its namespace, and by all others through `seen`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        own = (
            ("unshare", "--mount") if os.getuid() == 0 else ("unshare", "-U", "-m", "--map-current-user", "--keep-caps")
        )
        mount = f"mount -t tmpfs -o size={SIZE} none {folder} && echo mounted && exec sleep infinity"
        self._holder = subprocess.Popen((*own, "sh", "-c", mount), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"mounted\n":
            why = self._holder.stderr.read().decode().strip()
            self._holder.wait()
            pytest.skip(f"no disk can be mounted here: {why}")
        user = () if os.getuid() == 0 else ("--user", "--preserve-credentials")
        self.enter = (
            "nsenter",
            "--target",
            str(self._holder.pid),
            *user,
            "--mount",
            "--",
            "env",
            "-C",
            str(Path.cwd()),
        )
        self.seen = Path(f"/proc/{self._holder.pid}/root{folder}")
        self._ballast = self.seen / "ballast"

    def fill(self) -> None:
        """Take all room that is left."""
        with self._ballast.open("ab", buffering=0) as file:
            found = os.statvfs(file.fileno())
            with suppress(OSError):  # most of it in one call, or the sweep has ended before the disk is full
                os.posix_fallocate(file.fileno(), file.tell(), max(1, found.f_bavail * found.f_frsize))
            file.seek(0, os.SEEK_END)
            for size in (1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def give_back(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


@pytest.fixture
def disk(tmp_path: Path, bubblewrap: None) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


@pytest.mark.parametrize("what", ["results", "worktrees", "cache"])
def test_a_disk_that_fills_over_and_over_loses_nothing(
    what: str, disk: SmallDisk, settings: Settings, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(task=make_task().folder, attempts=ATTEMPTS // 2))
    undisturbed = Sweeps(replace(settings, results=tmp_path / "undisturbed"), tmp_path)
    wanted = patches(Path(json.loads(undisturbed.run("sweep", str(file), "--jobs", "2", "--json"))["folder"]))
    assert len(wanted) == ATTEMPTS

    sweeps = Sweeps(replace(settings, **{what: tmp_path / "disk" / what}), tmp_path, disk.enter)
    results = disk.seen / "results" if what == "results" else settings.results
    draw, filled, failed = random.Random(SEED), 0, 0
    process = sweeps.start("sweep", str(file), "--jobs", "2", "--json")
    while not list(results.glob("*/plan.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    while True:
        if filled < FILLS:
            time.sleep(draw.uniform(0, ATTEMPTS / 40) + (1.5 if failed else 0))  # one that is resumed makes ready first
            filled, deadline = filled + 1, time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < deadline:
                disk.fill()  # also what an attempt that ends gives back
                time.sleep(0.02)
            disk.give_back()
        out, err = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        failed += 1
        assert "Traceback" not in err
        said = json.loads(out)["stopped"] if out else err.strip().splitlines()[-1]
        assert any(words in said for words in ("No space left on device", "disk is full", "Out of diskspace")), err
        process = sweeps.start("resume", "latest", "--jobs", "2", "--json")
    (run,) = results.iterdir()
    assert failed
    assert patches(run) == wanted
    identities = [load_result(place).identity for place in run.glob("*/*/result.json")]
    assert len({(one.task_id, one.label, one.n) for one in identities}) == len(identities) == ATTEMPTS
    assert len(list(read_lines(run / "predictions.jsonl"))) == ATTEMPTS
    assert json.loads((run / "summary.json").read_text())["verdicts"] == {"unverified": ATTEMPTS}
    assert sum(len(list(read_lines(file))) for file in run.rglob("*.jsonl")) > ATTEMPTS  # none is torn
    time.sleep(0.5)
    assert processes_of(tmp_path / what) == processes_of(tmp_path / "disk" / what) == []
    sweeps.run("clean")
    assert not list(run.rglob("*.tmp"))
    worktrees = disk.seen / "worktrees" if what == "worktrees" else settings.worktrees
    assert not worktrees.exists() or not any(worktrees.iterdir())
