"""Which sandbox a run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.sandbox import container
from omniperf.sandbox.bubblewrap import Bubblewrap, why_not
from omniperf.sandbox.none import NoSandbox

if TYPE_CHECKING:
    from omniperf.sandbox.spec import Backend
    from omniperf.settings import SandboxChoice


def choose_backend(name: SandboxChoice, *, may_fall_back: bool = False) -> Backend:
    """The backend of that name; `auto` is bubblewrap.

    Only where `may_fall_back` (the bundled quickstart, whose code is ours) does `auto` end without a sandbox.
    Raises InfraError (missing_dep) where the host cannot confine.
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
        return Bubblewrap()
    if name == "auto" and may_fall_back:
        return NoSandbox()
    raise InfraError(
        "missing_dep",
        f"This host cannot run the bubblewrap sandbox: {reason}.",
        "Run `omniperf doctor`, or accept running without walls with `--sandbox none` (it is recorded in the result).",
    )
