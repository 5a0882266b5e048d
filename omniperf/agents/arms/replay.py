"""The control arm `replay`: a recorded attempt of a built-in agent, once more, with no model.

The model's replies and the results of benchmark, test and profile come from the recording; commands, edits and commits
are made. What comes out must be what came out then: each request is compared when it is made, and the trajectory line
by line at the end. The clock's readings alone are taken over from the recording, and with them what holds no more than
ids, dates, times and durations (`gateway/recording.py` says what these are).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.agents.models import AnthropicAgent, OpenAIAgent
from omniperf.agents.protocol import Outcome
from omniperf.agents.providers.tape import DivergedError, Playback
from omniperf.agents.recorded import Recorded
from omniperf.agents.tools import SessionTools
from omniperf.errors import OmniPerfError, UsageError
from omniperf.gateway.recording import difference
from omniperf.prompt.history import with_history
from omniperf.prompt.render import Prompt
from omniperf.results.start import parent_patch, read_start
from omniperf.results.store import read_lines, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.models import ModelAgent
    from omniperf.agents.protocol import Session

TRAJECTORY = "trajectory.jsonl"
_AGENTS: dict[str, type[ModelAgent]] = {"anthropic": AnthropicAgent, "openai": OpenAIAgent}
_CLOCK = {"t", "seconds", "wait"}


class ReplayAgent:
    """Runs a recorded attempt again, and says where it differs."""

    version = "1"
    summary = "a recorded attempt of a built-in agent again, with no model (option from=FOLDER)"
    options = ("from",)
    refines = False

    def check(self, options: Mapping[str, str]) -> None:
        """Read the recording. Raises UsageError where there is none that can be replayed."""
        _load(options)

    def solve(self, session: Session) -> Outcome:
        """Do again what was done."""
        folder, agent, recorded, playback = _load(session.options)
        assert isinstance(session.tools, SessionTools)
        session.tools.recorded = recorded
        if (start := read_start(folder)) is not None:
            session = replace(session, prompt=with_history(Prompt(session.prompt, "", ""), start).text)
            if start.parent is not None:
                session.workspace.apply(parent_patch(folder, folder.name.rpartition(".")[0], start))
        try:
            outcome = agent.again(session, recorded.options, playback)
        except DivergedError as error:
            return Outcome("agent_error", f"the replay diverged: {error}")
        except Exception:  # a limit or a failure, where the attempt ended too
            _take_clock(session.folder, folder)
            raise
        apart = _take_clock(session.folder, folder)
        return Outcome("agent_error", f"the replay diverged: {apart}") if apart else outcome


def _load(options: Mapping[str, str]) -> tuple[Path, ModelAgent, Recorded, Playback]:
    if not (name := options.get("from", "")):
        raise UsageError("The agent `replay` was given no attempt.", "Name its folder with the option from=FOLDER.")
    folder = Path(name)
    try:
        recorded = Recorded(folder)
    except (OmniPerfError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"The journal of {folder} cannot be read: {error}.", "Name an attempt's folder.") from None
    if recorded.agent not in _AGENTS or "model" not in recorded.options:
        what = f"an attempt of the agent {recorded.agent!r}" if recorded.agent else "no attempt"
        raise UsageError(f"{folder} is {what}.", f"Attempts of {' and '.join(_AGENTS)} can be replayed.")
    return folder, _AGENTS[recorded.agent](), recorded, Playback(folder)


def _take_clock(now: Path, then: Path) -> str:
    """Give the new trajectory the recorded clock; where a line differs in more, leave it, and say where."""
    pairs = zip_longest(read_lines(then / TRAJECTORY), read_lines(now / TRAJECTORY))
    for number, (was, is_) in enumerate(pairs, 1):
        if apart := difference(_timeless(was), _timeless(is_)):
            return f"line {number} of {TRAJECTORY} differs at {apart}"
    write_whole(now / TRAJECTORY, (then / TRAJECTORY).read_bytes(), exact=True)
    return ""


def _timeless(line: dict[str, Any] | None) -> dict[str, Any] | None:
    return line and {name: value for name, value in line.items() if name not in _CLOCK}
