"""The command line in a process of its own, which a test can interrupt and kill."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.settings import Settings


class Sweeps:
    """The command line, with folders of its own; `within` is a command that runs it."""

    def __init__(self, settings: Settings, folder: Path, within: tuple[str, ...] = ()) -> None:
        self.settings, self._within = settings, within
        places = {key: str(getattr(settings, key)) for key in ("results", "worktrees", "cache", "tasks")}
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        self.env |= {f"OMNIPERF_{key.upper()}": value for key, value in places.items()}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            (*self._within, sys.executable, "-m", "omniperf", *arguments),
            env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out
