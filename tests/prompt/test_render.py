"""Templates: the earlier system's prompts to the byte, and the default that says what is true and no more."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.prompt.render import own_template, render
from omniperf.shipped import shipped
from omniperf.tasks.load import list_tasks, load_task
from tests.seeds import SEEDS, seed

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task


@pytest.mark.parametrize("task_id", SEEDS)
def test_a_seed_is_rendered_to_the_byte(task_id: str, settings: Settings) -> None:
    expected = seed(task_id)
    task = load_task(task_id, settings)
    assert render(task, own_template(task), workspace=expected.workspace).data == expected.text


def edited(tmp_path: Path, settings: Settings, task_id: str, **changes: bytes) -> Task:
    """A copy of a seed's task with other contents in its files, named without their ending."""
    folder = tmp_path / task_id
    shutil.copytree(shipped("tasks") / "seeds" / task_id, folder)
    for name, data in changes.items():
        next(folder.glob(f"{name}.*")).write_bytes(data)
    return load_task(str(folder), settings)


def test_the_first_three_targets_stand_above_and_all_below(settings: Settings) -> None:
    task = load_task("seed-vllm-0016", settings)
    text = render(task, "gso").text
    above = text[text.index("Target files to optimize:") : text.index("IMPORTANT:")]
    below = text[text.index("## Target Files") : text.index("## Files Modified")]
    assert len(task.targets) == 6
    assert [line for line in above.split("\n") if line.startswith("- ")] == [f"- {path}" for path in task.targets[:3]]
    assert [line for line in below.split("\n") if line.startswith("- ")] == [f"- `{path}`" for path in task.targets]


def test_an_example_is_cut_at_thirty_lines(tmp_path: Path, settings: Settings) -> None:
    lines = "".join(f"+line {number}\n" for number in range(1, 40)).encode()
    text = render(edited(tmp_path, settings, "seed-vllm-0003", example=lines), "guided").text
    assert "+line 30\n</example_optimization_diff>" in text
    assert "+line 31" not in text


def test_texts_keep_their_line_ends_and_blanks(tmp_path: Path, settings: Settings) -> None:
    task = edited(
        tmp_path, settings, "seed-vllm-0003",
        test_script=b"a = 1 \r\n\tb\x0c\r\n", example=b" \n-x  \n+y\r\n", statistics=b" a | 1 +  \n",
    )  # fmt: skip
    data = render(task, "guided").data
    assert b"<test_script>\na = 1 \r\n\tb\x0c\r\n\n</test_script>" in data
    assert b"<example_optimization_diff>\n \n-x  \n+y\r\n</example_optimization_diff>" in data
    assert b"```\n a | 1 +  \n```" in data


def test_hints_stand_before_the_bullets_and_can_be_left_out(settings: Settings) -> None:
    task = load_task("seed-vllm-0003", settings)
    shown, hidden = (render(task, "guided", hints=hints).text for hints in (True, False))
    start = shown.index("\n## HINTS")
    end = shown.index("- Analyze the target files")
    assert shown[:start].endswith("Look for patterns like:\n")
    assert shown[:start] + shown[end:] == hidden


@pytest.mark.parametrize("name", ["statistics", "commit_message", "example_diff"])
def test_a_section_without_metadata_is_left_out_whole(name: str, settings: Settings) -> None:
    task = load_task("seed-vllm-0003", settings)
    assert task.legacy is not None
    without = task.model_copy(update={"legacy": task.legacy.model_copy(update={name: None})})
    full, less = render(task, "guided").text, render(without, "guided").text
    assert len(less) < len(full)
    assert "None" not in less
    assert "\n\n\n" not in less


def test_a_missing_text_is_an_error_with_its_name(tmp_path: Path, settings: Settings) -> None:
    task = edited(tmp_path, settings, "seed-vllm-0001")
    (task.folder / "statistics.txt").unlink()
    with pytest.raises(UsageError, match=r"legacy\.statistics: statistics\.txt cannot be read: No such file"):
        render(task, "gso")


def test_a_text_that_is_not_utf8_is_an_error_with_its_place(tmp_path: Path, settings: Settings) -> None:
    task = edited(tmp_path, settings, "seed-vllm-0001", test_script=b"caf\xe9\n")
    with pytest.raises(UsageError, match=r"test_script\.txt is not UTF-8 at byte 3\. Save it as UTF-8"):
        render(task, "gso")


def test_a_template_of_legacy_metadata_needs_it(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"gso is made from `legacy` metadata, which task quickstart does not have"):
        render(load_task("quickstart", settings), "gso")


@pytest.mark.parametrize("name", ["nothing", "../prompts/gso", ""])
def test_an_unknown_template_is_an_error_with_the_known_ones(name: str, settings: Settings) -> None:
    with pytest.raises(UsageError, match="Choose one of: gso, guided, optimize"):
        render(load_task("quickstart", settings), name)


def test_a_prompt_names_its_template_by_version_and_hash(settings: Settings) -> None:
    prompt = render(load_task("quickstart", settings))
    data = (shipped("prompts") / "optimize.md.j2").read_bytes()
    name, _, version = prompt.template.partition("@")
    assert name == "optimize"
    assert data.startswith(f"{{# version: {version} #}}\n".encode())
    assert prompt.template_sha256 == hashlib.sha256(data).hexdigest()
    assert prompt.sha256 == hashlib.sha256(prompt.data).hexdigest()
    assert "version:" not in prompt.text


def test_the_default_states_targets_tests_tools_budget_and_what_counts(settings: Settings) -> None:
    task = load_task("networkx-is-reachable", settings)
    text = render(task, workspace="/elsewhere").text
    flowing = " ".join(text.split())
    for said in (
        "git checkout at `/elsewhere`", "- `networkx/algorithms/tournament.py`", f"pass: `{task.tests[0]}`",
        "40 steps, 30 minutes, 2,000,000 tokens, $5 of model use", "`bash`, `edit`, `benchmark`",
        "each may take 600 seconds", "What you say about it does not count", "more than 1 % at 99 % confidence",
    ):  # fmt: skip
        assert said in flowing
    assert text.count("\n") < 40


def test_only_seeds_have_a_default_template_of_their_own(settings: Settings) -> None:
    own = {entry.name: own_template(entry.task) for entry in list_tasks(settings) if entry.task}
    vllm = {"seed-vllm-0001": "gso", "seed-vllm-0016": "gso", "seed-vllm-0003": "guided"}
    assert {name: template for name, template in own.items() if template != "optimize"} == {
        **vllm, "seed-sglang-0060": "guided"
    }  # fmt: skip
