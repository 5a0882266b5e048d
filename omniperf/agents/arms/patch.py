"""The control arm `patch`: a given diff, taken through the whole path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.agents.protocol import Outcome, ToolError
from omniperf.errors import InfraError, OmniPerfError, UsageError
from omniperf.gateway.budget import BudgetExhaustedError
from omniperf.workspace.patch import PatchDoesNotApplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.protocol import Session


class PatchAgent:
    """Applies the diff that the option `file` names."""

    version = "1"
    summary = "applies a given diff (--patch FILE)"
    options = ("file", "sha256")
    refines = False

    def check(self, options: Mapping[str, str]) -> None:
        """Read the diff. Raises UsageError where there is none."""
        _read(options.get("file", ""))

    def solve(self, session: Session) -> Outcome:
        """Apply the diff, commit, finish. Raises UsageError where there is none, PatchDoesNotApplyError."""
        data = _read(session.options.get("file", ""))
        if data.strip():
            try:
                session.workspace.apply(data)
            except InfraError:
                raise
            except OmniPerfError as error:
                raise PatchDoesNotApplyError(str(error)) from None
        try:
            session.tools.commit("Apply the given patch")
            session.tools.finish("The given patch is applied.")
        except BudgetExhaustedError as error:
            return Outcome("budget", str(error))
        except (OmniPerfError, ToolError) as error:
            return Outcome("agent_error", str(error))
        return Outcome("finished")


def _read(name: str) -> bytes:
    if not name:
        raise UsageError(
            "The agent `patch` was given no diff.", "Name one with --patch, or `options: {file: PATH}` in a sweep file."
        )
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(
            f"The diff {name} cannot be read: {error.strerror}.", "Give the path of an existing file."
        ) from None
