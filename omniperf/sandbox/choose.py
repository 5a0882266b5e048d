"""Which sandbox a run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.errors import InfraError, UsageError
from omniperf.sandbox.bubblewrap import Bubblewrap, why_not
from omniperf.sandbox.none import NoSandbox

if TYPE_CHECKING:
    from omniperf.sandbox.spec import Backend


def choose_backend(name: str, *, may_fall_back: bool = False) -> Backend:
    """The backend of that name; `auto` is bubblewrap.

    Only where `may_fall_back` (the bundled quickstart, whose code is ours) does `auto` end without a sandbox.
    Raises InfraError (missing_dep) where the host cannot confine, UsageError for an unknown name.
    """
    if name not in ("auto", "bubblewrap", "none"):
        raise UsageError(f"There is no sandbox {name!r}.", "Use auto, bubblewrap or none.")
    if name == "none":
        return NoSandbox()
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
