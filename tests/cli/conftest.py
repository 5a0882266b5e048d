"""The real command line in a folder of its own, away from the user's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

Omniperf = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.fixture
def omniperf(tmp_path: Path, folder: Path) -> Omniperf:
    """Run `omniperf ...` in the folder; keyword arguments are environment variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMNIPERF_", "XDG_"))}
    environment |= {"HOME": str(tmp_path / "home"), "COLUMNS": "100"}

    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "omniperf", *arguments],
            cwd=folder,
            env=environment | variables,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=120,
            check=False,
        )

    return call
