"""What tests of sweeps have: the command line in folders of their own, and a model server on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agents.loopback import Loopback
from tests.sweep.commands import Sweeps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from omniperf.settings import Settings


@pytest.fixture
def sweeps(settings: Settings, tmp_path: Path, bubblewrap: None) -> Sweeps:
    return Sweeps(settings, tmp_path)


@pytest.fixture
def server() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()
