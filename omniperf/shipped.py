"""Where the folders that travel with OmniPerf (`tasks/`, `prompts/`) are: in a checkout or inside the wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def shipped(folder: Literal["tasks", "prompts"]) -> Path:
    """Return the shipped folder of that name."""
    package = Path(__file__).parent
    in_wheel = package / "shipped" / folder
    return in_wheel if in_wheel.is_dir() else package.parent / folder
