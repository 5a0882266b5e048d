"""The agent `pattern`, as the harness calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.agents.protocol import Outcome, ToolError
from omniperf.gateway.budget import BudgetExhaustedError

if TYPE_CHECKING:
    from omniperf.agents.protocol import Session


class PatternAgent:
    """An optimizer by rules: what it keeps was screened faster, with equal outputs and passing tests."""

    version = "1"
    summary = "an optimizer without a model: profiles, rewrites by rules, keeps what is measured faster"

    def solve(self, session: Session) -> Outcome:
        """Try each rule on each hot function of the targets until nothing is left or the budget is spent."""
        from omniperf.agents.arms.pattern.search import Search  # libcst is slow to import, and agents are listed often

        search = Search(session)
        try:
            search.run()
            session.tools.finish(search.report())
        except BudgetExhaustedError as error:
            return Outcome("budget", str(error))
        except ToolError as error:
            return Outcome("agent_error", str(error))
        finally:
            search.undo_pending()
        return Outcome("finished", search.report())
