"""Prompts of real tasks against their real human commits: seeds leak, shipped tasks do not, and run refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from omniperf.prompt.render import own_template, render
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.settings import load_settings
from omniperf.sweep.run import run_task
from omniperf.tasks.load import list_tasks, load_task
from omniperf.verify.leaks import PromptBlockedError, check_of
from omniperf.workspace.source import mirror_of, resolve_source
from tests.conftest import FAST, MakeTask
from tests.seeds import SEEDS

if TYPE_CHECKING:
    from omniperf.results.schema import PromptCheck
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task


def checked(task: Task, settings: Settings, template: str = "optimize") -> PromptCheck:
    source = None if task.prompt_only else resolve_source(task, settings)
    return check_of(task, render(task, template), source, settings)


def found(check: PromptCheck) -> dict[str, str]:
    return {part.name: part.status for part in check.parts if part.status != "clean"}


@pytest.mark.parametrize("task_id", SEEDS)
def test_every_seed_leaks_and_its_patch_is_not_checked(task_id: str, settings: Settings) -> None:
    task = load_task(task_id, settings)
    check = checked(task, settings, own_template(task))
    assert check.status == "leaks"
    assert found(check)["statistics"] == "leaks"
    assert {found(check)[name] for name in ("patch lines", "patch 8-grams")} == {"not checked"}


def test_the_seed_with_hints_leaks_the_sha_only_through_them(settings: Settings) -> None:
    task = load_task("seed-vllm-0003", settings)
    for hints, status in ((True, "leaks"), (False, "clean")):
        prompt = render(task, "guided", hints=hints)
        parts = {part.name: part.status for part in check_of(task, prompt, None, settings).parts}
        assert parts["commit sha"] == status
        assert parts["commit message"] == parts["example diff"] == "leaks"


def test_the_sglang_seed_is_about_vllm(settings: Settings) -> None:
    evidence = checked(load_task("seed-sglang-0060", settings), settings, "guided").parts[-1].evidence
    assert [line.partition(":")[2].split()[0] for line in evidence] == ["from", "grep"]
    assert all("(vllm)" in line for line in evidence)


@pytest.mark.parametrize("task_id", SEEDS)
def test_the_default_template_gives_nothing_of_a_seed_away(task_id: str, settings: Settings) -> None:
    assert not checked(load_task(task_id, settings), settings).blocks


def test_no_shipped_task_with_a_repository_leaks(settings: Settings) -> None:
    """Those whose repository is bundled or has a mirror at hand; at least the bundled one."""
    settings = replace(settings, mirrors=load_settings().mirrors)
    tasks = [entry.task for entry in list_tasks(settings) if entry.origin == "shipped" and entry.task]
    tried = []
    for task in tasks:
        if task.repo and (task.repo.path or (task.repo.url and mirror_of(task.repo.url, settings.mirrors))):
            check = checked(task, settings)
            assert check.status == "clean", (task.id, found(check))
            assert not {"patch lines", "patch 8-grams", "statistics"} & set(found(check)), task.id
            tried.append(task.id)
    assert "quickstart" in tried


def described(make_task: MakeTask, text: str) -> Task:
    return make_task(f"description: |-\n  {text}")


def test_a_human_commit_is_compared_in_all_its_parts(make_task: MakeTask, settings: Settings) -> None:
    check = checked(described(make_task, "It is slow."), settings)
    assert check.status == "clean"
    assert found(check) == {}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Write {fast} there.", {"patch 8-grams"}),
        ("{fast}", {"patch lines", "patch 8-grams"}),
        ("Use a dict: the secret of the human commit.", {"commit message"}),
        ("toy/order.py | 6 +-----", {"statistics"}),
        ("See {sha}.", {"commit sha"}),
        ("Mind networkx/algorithms/dag.py, which is alike.", {"other repositories"}),
        ("Mind toy/order.py; `import toy` and for item in items: if item not in seen: are all base's.", set()),
    ],
)
def test_what_a_description_gives_away(text: str, parts: set[str], make_task: MakeTask, settings: Settings) -> None:
    task = make_task()
    assert task.repo is not None
    fast = FAST.strip().split("\n")[-1].strip()
    said = text.format(fast=fast, sha=str(task.repo.human)[:9])
    check = checked(task.model_copy(update={"description": said}), settings)
    assert set(found(check)) == parts


def test_a_task_without_a_human_commit_is_not_checked(make_task: MakeTask, settings: Settings) -> None:
    task = make_task()
    assert task.repo is not None
    alone = task.model_copy(update={"repo": task.repo.model_copy(update={"human": None})})
    assert checked(alone, settings).status == "not checked"


def test_a_reference_that_is_a_diff_has_no_message_and_no_sha(settings: Settings) -> None:
    check = checked(load_task("quickstart", settings), settings)
    assert found(check) == {"commit message": "not checked", "commit sha": "not checked"}


def test_run_refuses_a_prompt_that_leaks_unless_that_is_allowed_and_recorded(
    make_task: MakeTask, settings: Settings, bubblewrap: None
) -> None:
    task = described(make_task, "Use a dict: the secret of the human commit.")
    spec = AttemptSpec(run_id="", agent="null", n=0)
    with pytest.raises(
        PromptBlockedError, match=r"leaks the human solution \(commit message\).*--allow-leak"
    ) as caught:
        run_task(task, spec, 1, settings, ignore)
    assert caught.value.exit_code == 3
    assert list(settings.results.glob("*")) == []
    assert list(settings.worktrees.glob("*")) == []
    _, (result,) = run_task(task, replace(spec, allow_leak=True), 1, settings, ignore)
    assert result.allow_leak
    assert result.prompt_check is not None
    assert result.prompt_check.status == "leaks"
    assert result.identity.prompt_template_sha256 == render(task).template_sha256


def test_a_clean_prompt_is_recorded_as_such(make_task: MakeTask, settings: Settings, bubblewrap: None) -> None:
    _, (result,) = run_task(make_task(), AttemptSpec(run_id="", agent="null", n=0), 1, settings, ignore)
    assert result.prompt_check is not None
    assert result.prompt_check.status == "clean"
    assert not result.allow_leak
