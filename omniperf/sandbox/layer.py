"""A copy of a shared folder for one sandbox, where the host has no overlay."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.results.redact import keyless

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.sandbox.spec import Mount


def copied(mount: Mount) -> Path:
    """The mount's source, copied into its layer on first use; its blocks are shared where the file system can.

    Raises InfraError (disk).
    """
    assert mount.layer is not None
    copy, begun = mount.layer / "copy", mount.layer / "begun"
    if not copy.is_dir():
        mount.layer.mkdir(parents=True, exist_ok=True)
        command = ("cp", "-a", "--reflink=auto", "--", str(mount.source), str(begun))
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=keyless())
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["cp failed"])[-1]
            raise InfraError("disk", f"The environment could not be copied: {said}.", "Check the disk's space.")
        begun.rename(copy)
    return copy
