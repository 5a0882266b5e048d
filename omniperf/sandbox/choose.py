"""Which sandbox a run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.errors import InfraError, UsageError
from omniperf.sandbox import container
from omniperf.sandbox.bubblewrap import Bubblewrap, why_not
from omniperf.sandbox.cgroup import why_not as no_cgroup
from omniperf.sandbox.none import NoSandbox

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.sandbox.spec import Backend
    from omniperf.settings import SandboxChoice


def choose_backend(name: SandboxChoice, cgroup: Path | None = None, *, may_fall_back: bool = False) -> Backend:
    """The backend of that name; `auto` is bubblewrap, whose sandboxes are then in groups below `cgroup`.

    Only where `may_fall_back` (the bundled quickstart, whose code is ours) does `auto` end without a sandbox.
    Raises InfraError (missing_dep) where the host cannot confine, UsageError for a folder that is no such group.
    """
    if name == "none":
        return NoSandbox()
    if name in ("docker", "podman"):
        if lacking := container.why_not(name):
            raise InfraError(
                "missing_dep",
                f"This host cannot run the {name} sandbox: {lacking}.",
                f"Install or start {name}, or use `--sandbox bubblewrap`.",
            )
        return container.Container(name)
    reason = why_not()
    if not reason:
        if cgroup is not None and (lacking := no_cgroup(cgroup)):
            raise UsageError(
                f"Sandboxes cannot have control groups below {cgroup}: {lacking}.",
                "Name a group of version 2 that is delegated to this user, or unset `cgroup`.",
            )
        return Bubblewrap(cgroup)
    if name == "auto" and may_fall_back:
        return NoSandbox()
    raise InfraError(
        "missing_dep",
        f"This host cannot run the bubblewrap sandbox: {reason}.",
        "Run `omniperf doctor`, or accept running without walls with `--sandbox none` (it is recorded in the result).",
    )
