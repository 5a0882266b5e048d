"""The control arm `null`: one comment, so that the whole path runs on a patch that changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.agents.protocol import Outcome, ToolError
from omniperf.gateway.budget import BudgetExhaustedError
from omniperf.workspace.comment import comment_style, existing, with_comment

if TYPE_CHECKING:
    from omniperf.agents.protocol import Session


class NullAgent:
    """Appends one comment to the first target. Its verdict is never `improved` nor `regressed`."""

    version = "1"
    summary = "appends one comment to the first target: a patch that changes nothing"
    refines = False

    def solve(self, session: Session) -> Outcome:
        """Append the comment, commit, finish."""
        try:
            for path in existing(session.workspace.tree, session.task.targets):
                if style := comment_style(path):
                    session.tools.create(path, with_comment(session.tools.view(path), style))
                    session.tools.commit("Add a comment")
                    session.tools.finish(f"One comment at the end of {path}.")
                    return Outcome("finished")
        except BudgetExhaustedError as error:
            return Outcome("budget", str(error))
        except ToolError as error:
            return Outcome("agent_error", str(error))
        return Outcome("agent_error", "No target exists in which a comment can be written.")
