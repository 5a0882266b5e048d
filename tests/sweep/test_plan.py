"""What a sweep will do, before it does anything: which attempts, in which order, and what they can cost."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.results.events import ignore
from omniperf.results.store import read_lines
from omniperf.shipped import shipped
from omniperf.sweep.plan import Plan, make_plan
from omniperf.sweep.remeasure import claims_of_predictions
from omniperf.sweep.scheduler import Progress
from omniperf.sweep.spec import Caps, Contender, Sweep, load_sweep, sweep_of
from omniperf.sweep.sweep import resume_sweep, sum_up
from omniperf.tasks.load import load_task, task_sha256
from tests.example_result import RUN, example_result, write_attempt

if TYPE_CHECKING:
    from omniperf.settings import Settings

MODEL = Contender(agent="anthropic", label="a-model", options={"model": "claude-opus-5-5"})


def planned(settings: Settings, **fields: object) -> Plan:
    whole = {"tasks": ("quickstart", "tomlkit-*"), "agents": (Contender(agent="null"), MODEL), **fields}
    return make_plan(Sweep.model_validate({"schema": "omniperf/sweep/v1", **whole}), "run", settings)


def test_every_agent_meets_every_task_that_often(settings: Settings) -> None:
    plan = planned(settings, attempts=3)
    assert sorted(one.id for one in plan.attempts) == sorted(
        f"{task}/{label}.{n}"
        for task in ("quickstart", "tomlkit-escape")
        for label in ("null", "a-model")
        for n in (1, 2, 3)
    )


def test_first_attempts_come_first_and_the_seed_decides_the_rest(settings: Settings) -> None:
    one, same, other = (planned(settings, attempts=4, seed=seed).attempts for seed in (1, 1, 2))
    assert [attempt.n for attempt in one] == sorted(attempt.n for attempt in one)
    assert one == same
    assert one != other


def test_what_it_can_cost_is_known(settings: Settings) -> None:
    assert planned(settings).most_usd == 10.0  # two tasks with the default limit, and null costs nothing
    assert planned(settings, limits=Caps(usd=1.5)).most_usd == 3.0
    assert planned(settings, usd=2.0).most_usd == 2.0
    assert planned(settings, usd=20.0).most_usd == 20.0  # what host or provider ends is tried again
    assert planned(settings, agents=(Contender(agent="null"),), usd=20.0).most_usd == 0.0


def test_a_plan_is_what_was_written(settings: Settings) -> None:
    plan = planned(settings, attempts=2)
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan


def test_a_sweep_whose_usd_are_spent_can_be_given_more(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = "20261120-080000-0001"
    folder = settings.results / run
    folder.mkdir(parents=True)
    sweep = Sweep(tasks=("quickstart",), agents=(MODEL,), usd=2.0)
    (folder / "plan.json").write_text(make_plan(sweep, run, settings).model_dump_json(by_alias=True))
    gone_on_with: list[Plan] = []

    def run_no_more(plan: Plan, *_: object) -> Progress:
        gone_on_with.append(plan)
        return Progress()

    monkeypatch.setattr("omniperf.sweep.sweep._run", run_no_more)
    resume_sweep("latest", 1, settings, lambda _: nullcontext(ignore), usd=9.0)
    resume_sweep("latest", 1, settings, lambda _: nullcontext(ignore))
    assert [plan.most_usd for plan in gone_on_with] == [9.0, 9.0]


def test_a_glob_leaves_out_no_task_for_its_errors(settings: Settings) -> None:
    (settings.tasks / "quick-too").mkdir(parents=True)
    (settings.tasks / "quick-too" / "task.yaml").write_text("schema: omniperf/task/v1\nid: quick-too\n")
    with pytest.raises(UsageError, match=r"'quick\*' means the task quick-too too, which has errors"):
        planned(settings, tasks=("quick*",))
    assert {one.task for one in planned(settings, tasks=("quickst*",)).attempts} == {"quickstart"}


def test_a_task_file_may_have_any_name(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(shipped("tasks") / "quickstart", tmp_path / "t")
    text = (tmp_path / "t" / "task.yaml").read_text()
    for file, name in (("task.yaml", "one"), ("other.yaml", "two"), ("third.yaml", "one")):
        (tmp_path / "t" / file).write_text(text.replace("id: quickstart", f"id: {name}"))
    plan = planned(settings, tasks=(str(tmp_path / "t"), f"{tmp_path}/t/other.yaml"))
    for task in plan.tasks:
        assert load_task(task.file, settings).id == task.id
        assert task_sha256(load_task(task.file, settings)) == task.sha256
    with pytest.raises(UsageError, match="Two tasks are called 'one'"):
        planned(settings, tasks=(str(tmp_path / "t"), f"{tmp_path}/t/third.yaml"))


@pytest.mark.parametrize(("attempts", "names"), [(1, ["null"]), (2, ["null.1", "null.2"])])
def test_each_prediction_has_a_name_of_its_own(attempts: int, names: list[str], settings: Settings) -> None:
    """`verify --predictions` refuses a second patch of one name, and other readers keep the last of them."""
    folder = settings.results / RUN
    plan = make_plan(Sweep(tasks=("quickstart",), agents=(Contender(agent="null"),), attempts=attempts), RUN, settings)
    result = example_result()
    for one in plan.attempts:
        own = {"label": "null", "n": one.n, "task_sha256": plan.tasks[0].sha256, "run_id": RUN}
        made = result.model_copy(update={"identity": result.identity.model_copy(update=own)})
        write_attempt(settings.results, made)
    sum_up(plan, folder)
    assert [line["model_name_or_path"] for line in read_lines(folder / "predictions.jsonl")] == names
    claims, errors = claims_of_predictions(folder / "predictions.jsonl", settings)
    assert (len(claims), errors) == (attempts, [])


def test_a_plan_names_files_that_are_found_from_anywhere(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = planned(settings, agents=(Contender(agent="patch", options={"file": "my.diff", "sha256": "0" * 64}),))
    assert plan.sweep.agents[0].options == {"file": str(tmp_path / "my.diff"), "sha256": "0" * 64}


def test_tasks_by_tag(settings: Settings) -> None:
    plan = planned(settings, tasks=("tag:triton", "liger-dyt-autotune"))
    assert len({one.task for one in plan.attempts}) > 5
    assert len({one.id for one in plan.attempts}) == len(plan.attempts)
    with pytest.raises(UsageError, match="'tag:nothing'"):
        planned(settings, tasks=("tag:nothing",))


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "an agent twice": ("agents: [oracle, oracle]", "'oracle' is there twice"),
        "no agent": ("agents: []", "at least 1"),
        "a key nobody knows": ("agents: [oracle]\nattemps: 3", "attempts"),
        "half an attempt": ("agents: [oracle]\nattempts: 0", "attempts: "),
    }.values(),
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"schema: omniperf/sweep/v1\ntasks: [quickstart]\n{text}\n")
    with pytest.raises(UsageError, match=said) as caught:
        load_sweep(file)
    assert str(file) in str(caught.value)
    assert caught.value.remedy or ":" in str(caught.value)


def test_null_needs_no_quotes(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("schema: omniperf/sweep/v1\ntasks: [quickstart]\nagents: [null, oracle]\n")
    assert [one.name for one in load_sweep(file).agents] == ["null", "oracle"]


@pytest.mark.parametrize(
    ("agents", "said"), [(("null", "null"), "'null' is there twice"), ((":m",), "should match pattern")]
)
def test_what_makes_no_sweep_on_the_command_line_is_said(agents: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sweep_of(("quickstart",), agents)


def test_an_agent_with_a_model_on_the_command_line() -> None:
    named = Contender.named("openai:my/model:7b")
    assert (named.agent, named.name, named.options) == ("openai", "openai-my-model-7b", {"model": "my/model:7b"})


def test_the_sweep_file_of_the_readme_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (tmp_path / "sweep.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    read = load_sweep(tmp_path / "sweep.yaml")
    assert [one.name for one in read.agents] == ["null", "oracle", "anthropic"]
    assert (read.tasks, read.attempts) == (("networkx-*", "tag:gpu"), 3)
