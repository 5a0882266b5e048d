"""The oracle: applies the human patch. A task whose oracle does not improve measures the wrong thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.agents.protocol import Outcome

if TYPE_CHECKING:
    from omniperf.agents.protocol import Session


class OracleAgent:
    """Applies the reference patch, which the harness hands it and no other agent."""

    version = "1"
    summary = "the human (reference) patch; shows what the task can show"
    needs_reference = True
    refines = False

    def solve(self, session: Session) -> Outcome:
        """Apply, commit, finish."""
        assert session.reference is not None
        session.workspace.apply(session.reference)
        session.tools.commit("apply the reference patch")
        session.tools.finish("the reference patch is applied")
        return Outcome("finished")
