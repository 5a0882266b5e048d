"""A task tests itself: what its certificate says, where it lies, and what refuses it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.measure.bench import open_bench
from omniperf.measure.calibration import stored
from omniperf.measure.host import host_id
from omniperf.report.certificate_view import badge, certificate_line
from omniperf.results.certificate import Certificate, certificates_of
from omniperf.results.events import ignore
from omniperf.tasks.load import TaskEntry, list_tasks, load_task, task_sha256
from omniperf.verify import calibrate as calibrate_module
from omniperf.verify.calibrate import calibrate, calibrate_all, measure_fixed
from omniperf.verify.certify import certify
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import SLOW
from tests.verify.test_verdicts import order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from tests.conftest import MakeTask

SCRIPT = """\
import os, random

from toy.order import distinct

rng = random.Random(os.environ["OMNIPERF_SEED"])
print(len(distinct([rng.randrange(10**9) for _ in range(2000)])))
"""
ASKS_LITTLE = "measure: {min_effect: 0.9}"  # so that a busy host passes too
ASKS_MUCH = "measure: {min_effect: 0.00002, margin: 0.00001}"


@pytest.fixture
def task(make_task: MakeTask, bubblewrap: None) -> Task:
    return make_task(ASKS_LITTLE, workload=SCRIPT)


def with_human_patch(task: Task, settings: Settings, patch: bytes | None) -> Task:
    """The task with a diff for its human commit, or with neither."""
    file = task.folder / "task.yaml"
    assert task.repo is not None
    file.write_text(file.read_text().replace(f", human: {task.repo.human}", ", human_patch: it.diff" if patch else ""))
    (task.folder / "it.diff").write_bytes(patch or b"")
    return load_task(str(task.folder), settings)


def test_a_certificate_says_what_the_task_can_show_and_what_that_costs(task: Task, settings: Settings) -> None:
    before = task_sha256(task)
    lines: list[Mapping[str, object]] = []
    test = certify(task, settings, ignore, fixed_pairs=3, record=lines.append)
    found = test.certificate
    assert found is not None, test.steps
    assert [step.name for step in test.steps] == [
        "deterministic", "tests on base", "noise floor", "null patch", "human patch", "3 pairs",
    ]  # fmt: skip
    assert all(step.ok for step in test.steps)
    assert all(0 < (step.lane_seconds or 0) < step.wall_seconds for step in test.steps[2:])
    measured = Counter(line["step"] for line in lines if "base" in line and line.get("label") != "alone")
    assert (measured["noise floor"], measured["3 pairs"]) == (12, 3)
    assert found.human is not None and found.human.speedup is not None
    assert measured["human patch"] == found.human.speedup.pairs
    assert found.kind == "optimization"
    assert found.null.class_ == "no_change"
    assert found.human is not None
    assert (found.human.class_, found.human.correctness.tests_passed) == ("improved", True)
    assert found.human.noise_floor == found.null.noise_floor == found.calibration.noise.floor
    assert found.calibration.noise.pairs == 12
    assert found.fixed_pairs is not None
    assert (found.fixed_pairs.pairs, found.fixed_pairs.samples) == (3, 8)  # two warm up
    assert found.fixed_pairs.interval.low < found.fixed_pairs.speedup < found.fixed_pairs.interval.high
    assert found.environment["cpu"]["model"] in found.calibration.device

    assert test.file == task.folder / "certificates" / f"{host_id()}.json"
    assert Certificate.model_validate_json(test.file.read_bytes()) == found
    assert task_sha256(load_task(str(task.folder), settings)) == before == found.task_sha256

    assert found.human.speedup is not None
    shown = badge(certificates_of(task, host_id()))
    assert shown.startswith(f"{found.human.speedup.speedup:.2f}x ±")
    assert shown.endswith(" here")
    assert badge(certificates_of(task, "0" * 16)) == f"{found.human.speedup.speedup:.2f}x elsewhere"
    assert host_id() not in certificate_line("here", found)
    (task.folder / "certificates" / "torn.json").write_text("{")
    file = task.folder / "task.yaml"
    file.write_text(file.read_text().replace("Speed up distinct", "Speed up something else"))
    changed = certificates_of(load_task(str(task.folder), settings), host_id())
    assert badge(changed) == "stale"
    assert "the task has changed" in certificate_line(*changed[0])


def test_a_task_whose_human_patch_changes_nothing_is_a_control(task: Task, settings: Settings, tmp_path: Path) -> None:
    control = with_human_patch(task, settings, order(SLOW + "# Slow.\n"))
    test = certify(control, settings, ignore, out=tmp_path / "out")
    assert test.certificate is not None, test.steps
    assert test.certificate.human is not None
    assert (test.certificate.kind, test.certificate.human.class_) == ("control", "no_change")
    assert test.file == tmp_path / "out" / "toy" / "certificates" / f"{host_id()}.json"
    assert not (task.folder / "certificates").exists()
    assert badge([("here", test.certificate)]) == "control here"


def test_without_a_human_patch_it_is_not_known_that_anything_can_be_won(task: Task, settings: Settings) -> None:
    alone = with_human_patch(task, settings, None)
    with pytest.raises(UsageError, match="no human patch to measure"):
        certify(alone, settings, ignore, fixed_pairs=3)
    test = certify(alone, settings, ignore)
    assert test.certificate is not None, test.steps
    assert (test.certificate.kind, test.certificate.human) == ("open", None)


def test_noise_above_the_smallest_effect_refuses_the_certificate(
    make_task: MakeTask, settings: Settings, bubblewrap: None
) -> None:
    task = make_task(ASKS_MUCH, workload=SCRIPT)
    test = certify(task, settings, ignore)
    assert (test.certificate, test.file) == (None, None)
    assert (test.steps[-1].name, test.steps[-1].ok) == ("noise floor", False)
    assert "measure.min_effect" in test.steps[-1].remedy
    assert not (task.folder / "certificates").exists()


def test_a_human_patch_that_breaks_the_tests_refuses_the_certificate(task: Task, settings: Settings) -> None:
    broken = with_human_patch(task, settings, order(SLOW + "raise ValueError\n"))
    test = certify(broken, settings, ignore)
    assert test.certificate is None
    assert (test.steps[-1].name, test.steps[-1].ok) == ("human patch", False)
    assert test.steps[-1].detail.startswith("incorrect: ")


def test_tests_that_fail_on_base_refuse_the_certificate(task: Task, settings: Settings) -> None:
    file = task.folder / "task.yaml"
    file.write_text(file.read_text().replace("tests.test_order", "tests.nothing"))
    test = certify(load_task(str(task.folder), settings), settings, ignore)
    assert (test.certificate, len(test.steps)) == (None, 1)
    assert "tests fail on base" in test.steps[0].detail


def test_where_no_certificate_can_be_written_nothing_is_measured(task: Task, settings: Settings) -> None:
    (task.folder / "certificates").write_text("a file")
    with pytest.raises(UsageError, match="--out"):
        certify(task, settings, ignore)
    assert not settings.worktrees.exists()


def test_a_fixed_number_of_pairs_is_measured_even_if_all_is_clear_or_the_time_is_up(
    make_task: MakeTask, settings: Settings, bubblewrap: None
) -> None:
    bench = open_bench(make_task("measure: {max_minutes: 0.0001}", workload=SCRIPT), settings, ignore)
    human = bench.human_patch()
    assert human is not None
    pairs, orders = measure_fixed(bench, preflight(bench, ignore), ("base", "human"), human, 7, print, ignore)
    assert len(pairs.base) == len(pairs.candidate) == len(orders) == 7
    assert set(orders) == {"AB", "BA"}
    assert pairs.decision is None


def test_a_verdict_claims_only_what_is_beyond_the_noise_floor(
    make_task: MakeTask, settings: Settings, bubblewrap: None
) -> None:
    bench = open_bench(make_task(workload=SCRIPT), settings, ignore)
    proved = preflight(bench, ignore)
    human = bench.human_patch()
    assert human is not None

    def verdict() -> object:
        found = verify_patch(bench, human, proved, lambda line: None, ignore)
        return found.class_, found.noise_floor, "noise floor" in found.reason

    assert verdict() == ("improved", None, False)
    calibrated = calibrate(bench, proved, print, ignore)
    assert stored(bench) == calibrated
    assert verdict() == ("improved", calibrated.noise.floor, False)
    (file,) = [
        path
        for path in (settings.cache / "calibration").glob("*.json")
        if path.read_bytes() == calibrated.model_dump_json(indent=1).encode()
    ]
    noisy = calibrated.model_copy(update={"noise": calibrated.noise.model_copy(update={"floor": 1000.0})})
    file.write_text(noisy.model_dump_json())
    assert verdict() == ("inconclusive", 1000.0, True)


def test_all_tasks_that_can_run_are_calibrated_and_of_the_others_it_is_said_why(
    task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [one for one in list_tasks(settings) if one.name in ("toy", "seed-vllm-0001")]
    entries.append(TaskEntry("broken", task.folder / "task.yaml", "local", None, "no task at all"))
    monkeypatch.setattr(calibrate_module, "list_tasks", lambda settings: entries)
    found, skipped = calibrate_all(settings, ignore)
    assert [one.task_id for one in found] == ["toy"]
    assert set(skipped) == {"seed-vllm-0001", "broken"}
    assert "prompt-only" in skipped["seed-vllm-0001"]
