"""A task that cannot give a true verdict is refused before anything is spent."""

from collections.abc import Callable

import pytest

from omniperf.errors import UsageError
from omniperf.measure.bench import open_bench
from omniperf.results.events import ignore
from omniperf.settings import Settings
from omniperf.verify.preflight import preflight
from omniperf.verify.validate import validate_task

USES = "from toy.order import distinct\n"
SEED = "def setup(seed): return seed\n"
SAME = "def run(state): return state\n"

BAD = {
    "only loads the target": ("import toy.order\n" + SEED + SAME, "executes no function of its targets"),
    "calls it in setup only": (USES + "def setup(seed): return distinct([seed])\n" + SAME, "executes no function"),
    "imports it in run": (SEED + "def run(state):\n    import toy.order\n    return state\n", "executes no function"),
    "raises": (
        USES + SEED + "def run(state): raise ValueError('broken')\n",
        "workload fails on base: run raised ValueError: broken",
    ),
    "does not import": ("import missing_module\n" + SEED + SAME, "ModuleNotFoundError"),
    "two outputs for one seed": (
        USES + "import os\n" + SEED + "def run(state): return distinct([os.urandom(4)])\n",
        "two outputs for one seed",
    ),
    "an unlisted type": (USES + SEED + "def run(state): return (x for x in distinct([state]))\n", "not plain data"),
}


@pytest.mark.parametrize(("workload", "message"), BAD.values(), ids=BAD.keys())
def test_a_workload_that(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None, workload: str, message: str
) -> None:
    bench = open_bench(make_task(workload=workload), settings, ignore)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        preflight(bench, ignore)
    assert not settings.worktrees.exists()


def test_targets_that_match_nothing(make_task: Callable[..., object], settings: Settings, bubblewrap: None) -> None:
    task = make_task()
    task = task.model_copy(update={"targets": ("src/*.py",)})  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"no file of base matches its targets src/\*\.py"):
        preflight(open_bench(task, settings, ignore), ignore)


def test_tests_that_fail_on_base(make_task: Callable[..., object], settings: Settings, bubblewrap: None) -> None:
    task = make_task().model_copy(update={"tests": ("python -c 'raise SystemExit(4)'",)})  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="tests fail on base"):
        preflight(open_bench(task, settings, ignore), ignore)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"base": "0" * 40}, "base 0+ is not a commit"), ({"human": "f" * 40}, "human f+ is not a commit")],
)
def test_a_commit_that_does_not_exist(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None, change: dict[str, str], message: str
) -> None:
    task = make_task()
    task = task.model_copy(update={"repo": task.repo.model_copy(update=change)})  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=message):
        open_bench(task, settings, ignore)


def test_setup_that_edits_a_file_of_the_repository(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    task = make_task()
    setup = task.environment.model_copy(update={"setup": ("echo x >> README.md",)})  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"set-up changes README\.md"):
        open_bench(task.model_copy(update={"environment": setup}), settings, ignore)  # type: ignore[attr-defined]


def test_what_setup_adds_is_in_every_tree_and_in_no_patch(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    from omniperf.workspace.patch import collect

    task = make_task()
    setup = task.environment.model_copy(update={"setup": ("echo 'v = 1' > toy/_version.py",)})  # type: ignore[attr-defined]
    bench = open_bench(task.model_copy(update={"environment": setup}), settings, ignore)  # type: ignore[attr-defined]
    workspace = bench.workspace("agent")
    assert (workspace.tree / "toy/_version.py").read_text() == "v = 1\n"
    assert collect(workspace).files == ()


def test_validate_says_what_it_proved(make_task: Callable[..., object], settings: Settings, bubblewrap: None) -> None:
    checks = validate_task(make_task(), settings, ignore)  # type: ignore[arg-type]
    assert all(check.ok for check in checks)
    assert any("toy/order.py:distinct" in check.detail for check in checks)


def test_validate_stops_at_the_first_claim_that_fails(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    checks = validate_task(make_task(workload=BAD["only loads the target"][0]), settings, ignore)  # type: ignore[arg-type]
    assert [check.ok for check in checks][-2:] == [True, False]
    assert checks[-1].remedy
