"""Control groups (version 2) of sandboxes, below the one group that the settings name, and never anywhere else."""

from __future__ import annotations

import atexit
import os
import secrets
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.results.redact import keyless
from omniperf.sandbox.loopback import joining
from omniperf.sandbox.spec import Allowance

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTROLLERS = {"memory", "pids", "cpu"}
_MEMORY_BESIDE = 256 * 2**20  # so that the harness's own limit, which says what happened, comes first
_PROCESSES_BESIDE = 8  # bubblewrap's and ours
_PERIOD = 100_000  # microseconds


def why_not(folder: Path) -> str:
    """Why sandboxes cannot have groups below that folder, from really making one; "" when they can."""
    if not (folder / "cgroup.controllers").is_file():
        return "it is no control group of version 2"
    if not (folder / "cgroup.type").is_file():
        return "it is the root of all groups, which nobody can be given"
    if missing := _CONTROLLERS - set((folder / "cgroup.controllers").read_text().split()):
        return f"the controllers {', '.join(sorted(missing))} are not delegated to it"
    try:
        group = Groups(folder).made(Allowance())
    except InfraError as error:
        return error.message.rstrip(".")
    done = subprocess.run(joining((), "/bin/true", group), capture_output=True, text=True, check=False, env=keyless())
    with suppress(OSError):
        group.rmdir()
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


class Groups:
    """The groups that this process made below a folder; as new ones are made, those that are over are removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._over: dict[Path, Callable[[], bool]] = {}
        atexit.register(self._remove)

    def made(self, allowance: Allowance, *, measured: bool = False) -> Path:
        """A new group with the limits of an allowance. Raises InfraError.

        What is measured has no quota of CPU time: it cannot leave its cores, and a quota would stop it under the clock.
        """
        self._remove()
        group = self.folder / f"omniperf-{os.getpid()}-{secrets.token_hex(4)}"
        limits = {
            "memory.max": str(allowance.memory + _MEMORY_BESIDE),
            "pids.max": str(allowance.processes + _PROCESSES_BESIDE),
        }
        if allowance.cpus and not measured:
            limits["cpu.max"] = f"{allowance.cpus * _PERIOD} {_PERIOD}"
        try:
            (self.folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(_CONTROLLERS)))
            group.mkdir()
            for name, value in limits.items():
                (group / name).write_text(value)
            if (group / "memory.swap.max").is_file():
                (group / "memory.swap.max").write_text("0")
        except OSError as error:
            raise InfraError(
                "spawn",
                f"No group can be made in {self.folder} ({error.strerror}).",
                "Delegate it to this user, with no process in it itself; or unset `cgroup`.",
            ) from None
        return group

    def used(self, group: Path, over: Callable[[], bool]) -> None:
        """Say how to ask whether what entered it has ended, with all that it started."""
        self._over[group] = over

    def _remove(self) -> None:
        """Remove groups that are over, also those that harnesses left which were killed."""
        left = [one for one in self.folder.glob("omniperf-*-*") if not Path("/proc", one.name.split("-")[1]).is_dir()]
        for group in [*left, *(one for one, over in list(self._over.items()) if over())]:
            with suppress(OSError):  # the last of its processes is still going
                group.rmdir()
                self._over.pop(group, None)
