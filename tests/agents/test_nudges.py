"""What a model is told beside its results, and the tools of its provider's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.nudges import UNMEASURED
from omniperf.agents.toolset import TEXT_EDITOR
from tests.agents.conftest import APIS, Attempt, answers_of, listed
from tests.agents.loopback import Loopback, Say
from tests.conftest import FAST, SLOW

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOK = ("bash", {"command": "true"})
EDIT = ("edit", {"command": "create", "path": "toy/order.py", "text": FAST})
BY_HAND = ("bash", {"command": "echo '# a' >> toy/order.py"})
FINISH = ("finish", {"summary": "done"})
LATE = "nothing in the checkout has been changed yet"


def script(*turns: Sequence[tuple[str, Any]]) -> list[Say]:
    return [Say("", tuple(calls)) for calls in turns]


def told(loopback: Loopback) -> list[str]:
    return [text for _, text in answers_of(listed(loopback.calls[-1].body))]


@pytest.mark.parametrize("api", APIS)
def test_what_is_left_is_said_at_halves_and_at_the_end(api: str, loopback: Loopback, attempt: Attempt) -> None:
    attempt(script(*[[LOOK]] * 19, [FINISH]), api, {"steps": 20})
    said = [number for number, text in enumerate(told(loopback), 1) if "[left: " in text]
    assert said == [10, 15, 16, 17, 18, 19]
    assert re.search(r"\n\[left: 10 steps, 30 min, [45]\.\d\d USD\]$", told(loopback)[9])


def test_the_limit_that_is_nearest_counts(loopback: Loopback, attempt: Attempt) -> None:
    turns = [Say("", (LOOK,), usage=(100_000, 0, 0, 0)) for _ in range(6)]  # the seventh would not fit any more
    attempt([*turns, Say("", (FINISH,))], "anthropic", {"usd": 3.5, "steps": 1000})  # 0.4 USD a call
    assert [number for number, text in enumerate(told(loopback), 1) if "[left: " in text] == [5]
    assert "1.50 USD]" in told(loopback)[4]


def test_who_has_a_price_that_is_not_known_is_told_of_tokens(loopback: Loopback, attempt: Attempt) -> None:
    attempt(script(*[[LOOK]] * 2, [FINISH]), "chat", {"steps": 4}, model="my-own-model")
    assert " tokens]" in told(loopback)[-1]


@pytest.mark.parametrize(
    ("what", "first", "reminded"), [("looks only", LOOK, 1), ("edits", EDIT, 0), ("edits by a command", BY_HAND, 0)]
)
def test_who_has_changed_nothing_by_a_third_is_reminded_once(
    what: str, first: Any, reminded: int, loopback: Loopback, attempt: Attempt
) -> None:
    attempt(script([first], *[[LOOK]] * 11, [FINISH], [FINISH]), "chat", {"steps": 18})
    texts = told(loopback)
    assert [LATE in text for text in texts].count(True) == reminded
    assert not reminded or LATE in texts[5]


def test_who_ends_without_a_benchmark_after_an_edit_is_asked_once(loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt(script([EDIT], [FINISH], [LOOK], [FINISH]), "chat")
    assert (ended.outcome.finish_called, len(loopback.calls)) == (True, 4)
    assert UNMEASURED in told(loopback)[1]
    assert [UNMEASURED in text for text in told(loopback)].count(True) == 1


@pytest.mark.parametrize(
    "calls", [[LOOK, FINISH], [EDIT, ("edit", {"command": "undo", "path": "toy/order.py"}), FINISH]]
)
def test_who_has_changed_nothing_may_end(calls: Any, loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt(script(calls), "chat")
    assert (ended.outcome.finish_called, len(loopback.calls)) == (True, 1)


def test_near_the_end_the_benchmark_is_asked_for_beside_the_results(loopback: Loopback, attempt: Attempt) -> None:
    ended = attempt(script([EDIT], *[[LOOK]] * 17, [FINISH]), "chat", {"steps": 20})
    assert [number for number, text in enumerate(told(loopback), 1) if UNMEASURED in text] == [17]
    assert ended.outcome.finish_called


def test_who_says_nothing_more_is_asked_with_the_nudge(loopback: Loopback, attempt: Attempt) -> None:
    attempt([Say("", (EDIT,)), Say("I am done."), Say("Really.")], "chat")
    assert UNMEASURED in listed(loopback.calls[-1].body)[-1]["content"]


def test_anthropics_own_editor_does_what_ours_does(loopback: Loopback, attempt: Attempt) -> None:
    loop, fast = (text[SLOW.index("    seen = []") :] for text in (SLOW, FAST))

    def own(command: str, path: str, **more: Any) -> tuple[str, Any]:
        return TEXT_EDITOR.name, {"command": command, "path": path, **more}

    calls = [
        own("view", "/workspace"),
        own("view", "/workspace/toy/order.py", view_range=[4, 5]),
        own("create", "toy/new.py", file_text="a\n"),
        own("insert", "toy/new.py", insert_line=1, insert_text="b\n"),
        own("str_replace", "toy/new.py", old_str="a\n"),
        own("str_replace", "/workspace/toy/order.py", old_str=loop, new_str=fast),
        own("undo_edit", "toy/new.py"),
        own("create", "toy/x.py"),
        own("view", "../etc/passwd"),
        own("view", "a" * 5000),
        ("edit", {"command": "view", "path": "toy/order.py"}),
    ]
    ended = attempt(script(calls, [FINISH], [FINISH]), "anthropic", native_tools="True")
    texts = told(loopback)
    assert "./toy/order.py" in texts[0].splitlines()
    assert texts[1] == "     4\tdef distinct(items):\n     5\t    seen = []"
    assert texts[2:6] == ["toy/new.py: done."] * 3 + ["toy/order.py: done."]
    wanted = ("must be one of view", "needs file_text", "not a path inside", "name too long", "There is no tool 'edit'")
    assert [word in text for word, text in zip(wanted, texts[6:], strict=False)] == [True] * 5
    assert "dict.fromkeys" in ended.patch
    assert "+b\n" in ended.patch
    tools = loopback.calls[0].body["tools"]
    assert {"type": "text_editor_20250728", "name": TEXT_EDITOR.name} in tools
    assert "edit" not in [tool["name"] for tool in tools]
