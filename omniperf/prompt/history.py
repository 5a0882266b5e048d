"""What an agent is told of earlier attempts that it goes on from: what each changed, and what it was measured as."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omniperf.prompt.render import Prompt
    from omniperf.results.schema import Start, Tried

_CAME_TO = {
    "improved": "faster",
    "no_change": "no change",
    "regressed": "slower, or worse in another metric",
    "inconclusive": "too little to tell from noise",
    "incorrect": "wrong: it does not do what base does",
    "rejected": "rejected: it changes what it may not, or how it is measured",
    "invalid": "broken: it does not apply or build",
    "no_patch": "nothing was changed",
    "unverified": "not measured",
}
_MEASURED = ("improved", "no_change", "regressed", "inconclusive")


def with_history(prompt: Prompt, start: Start) -> Prompt:
    """The prompt with what was tried before at its end, which is as long at most as so many `Tried` are."""
    if not start.before:
        return prompt
    if start.parent is None:
        held = "None of them was measured as faster, so the checkout is base."
    else:
        held = (
            f"The checkout already holds the patch of attempt {start.parent}, the best so far, uncommitted: "
            "`git status` and `git diff` show it. Go on from there, or take it back and try something else; all that "
            "differs from base when you are done is your patch, and it is measured against base."
        )
    told = " (the best and the last of them are below)" if start.before > len(start.tried) else ""
    lines = ["", "## What was tried before", f"Attempts before this one: {start.before}{told}. {held}"]
    for one in start.tried:
        lines += ["", *_told(one)]
    return replace(prompt, text="\n".join((prompt.text.rstrip("\n"), *lines, "")))


def _told(one: Tried) -> list[str]:
    came_to = _CAME_TO[one.verdict]
    if one.verdict in _MEASURED and one.speedup is not None and one.at_least is not None:
        came_to += f": {one.speedup:.3f} times as fast as base, surely at least {one.at_least:.3f} times"
    lines = [f"- Attempt {one.n}: {came_to}."]
    if one.files:
        lines.append(f"  Changed: {', '.join(one.files)} (+{one.added} -{one.removed} lines).")
    if one.summary:
        lines.append(f"  Its own words: {' '.join(one.summary.split())}")
    if one.change:
        lines += ["", *(f"      {line}" for line in one.change.split("\n"))]
    return lines
