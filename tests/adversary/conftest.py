"""The host as it was before an attack, and a row of the table that `python -m tests.adversary` prints."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.sandbox import supervised
from omniperf.sandbox.spec import sandbox_uid
from tests.adversary.cases import numbers

if TYPE_CHECKING:
    from omniperf.results.schema import Verdict
    from omniperf.settings import Settings

Named = Callable[..., None]


@pytest.fixture
def settings(settings: Settings, bubblewrap: None) -> Settings:
    """Never without walls, whatever the host is set to: what is run here kills and deletes all that it can reach."""
    return replace(settings, sandbox="bubblewrap")


@pytest.fixture(autouse=True)
def one_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal toy tasks have one commit: they are proved on base once."""
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_DATE", "2026-01-01T00:00:00Z")


@pytest.fixture
def named(record_property: Callable[[str, object], None]) -> Named:
    """Keep a row for the table, and ask for the finding that must name the trick."""

    def keep(file: Path, verdict: Verdict, case: dict[str, Any], outcome: str = "") -> None:
        found = [finding.id for finding in (*verdict.findings, *case.get("read", ()))]
        row = (numbers(file), outcome, verdict.class_, found)
        record_property("row", row)
        wanted = case.get("FINDING")
        if wanted is not None:
            assert wanted in found, f"no finding {wanted} among {found}"

    return keep


class Host:
    """What no attack may change or learn: a canary in every place of the host that an attempt is near."""

    def __init__(self, watched: tuple[Path, ...], scratch: Path, hidden: tuple[str, ...]) -> None:
        self.canary = f"canary-{secrets.token_hex(8)}"
        self.hidden = (self.canary, *hidden)
        self._watched, self._scratch = watched, scratch
        for folder in watched:
            if not (folder / "objects").exists():  # a repository is its own canary
                (folder / "canary").write_text(self.canary)
        self._before = self._fingerprint()

    def hurt(self) -> list[str]:
        """What is no longer as it was."""
        now = self._fingerprint()
        changed = [path for path in self._before.keys() | now.keys() if self._before.get(path) != now.get(path)]
        return [*changed, *map(str, self._scratch.iterdir()), *left_behind()]

    def _fingerprint(self) -> dict[str, tuple[object, ...]]:
        entries = (Path(top, name) for folder in self._watched for top, *inner in os.walk(folder)
                   for names in inner for name in names)  # fmt: skip
        return {str(path): _state(path) for path in entries}


def _state(path: Path) -> tuple[object, ...]:
    about = path.lstat()
    if path.is_symlink():
        return (about.st_mode, str(path.readlink()))
    return (about.st_mode, about.st_uid, path.read_bytes() if path.is_file() else about.st_nlink)


def left_behind(mark: str = "hostile-mark") -> list[str]:
    """What bears that name in places that a host shares, as all that attacks make does, and processes of sandboxes."""
    shared = [entry for folder in ("/tmp", "/dev/shm", "/var/tmp") for entry in Path(folder).iterdir()]
    left = [str(entry) for entry in shared if entry.name == mark]
    left += [line for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(f"@{mark}")]
    ours = {str(pid) for _, pid in supervised._READY.values()}  # which takes supervisors into sandboxes
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    left += [f"our child {pid}" for pid in children if pid not in ours]
    for folder in (entry for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with suppress(OSError):  # it has just ended
            if folder.stat().st_uid == sandbox_uid():
                left.append(f"process {(folder / 'cmdline').read_bytes()!r}")
    return left


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The harness's own temporary folder, in which it leaves nothing."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
