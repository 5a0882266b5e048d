"""What pairs of base and base say of the noise, and for what that holds."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from omniperf.measure import calibration, lanes
from omniperf.measure.bench import Bench, open_bench
from omniperf.measure.calibration import keep, noise_of, stored
from omniperf.measure.clock import Sample
from omniperf.measure.nvml import Gpu
from omniperf.measure.pairs import Pairs
from omniperf.measure.statistics import hl_interval, robust_sd
from omniperf.results.events import ignore
from omniperf.tasks.load import load_task

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.settings import Settings
    from tests.conftest import MakeTask

QUIET = [0.004, -0.003, 0.001, -0.002, 0.005, -0.004, 0.002, -0.001, 0.003, -0.005, 0.0, 0.001]
ORDERS = ["AB", "BA"] * 6


def test_the_noise_floor_is_the_larger_end_of_the_interval_of_base_against_base() -> None:
    low, high = hl_interval(QUIET, 0.95)
    noise = noise_of(QUIET, ORDERS)
    assert noise.floor == pytest.approx(math.exp(max(abs(low), abs(high))) - 1)
    assert (noise.interval.low, noise.interval.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert noise.pairs == 12


def test_the_noise_floor_has_no_direction() -> None:
    shifted = [one + 0.02 for one in QUIET]
    assert noise_of(shifted, ORDERS).floor == pytest.approx(noise_of([-one for one in shifted], ORDERS).floor)
    assert noise_of(shifted, ORDERS).floor > math.expm1(0.02)


@pytest.mark.parametrize("outlier", [-3.0, 3.0])
def test_one_outlier_is_counted_and_moves_the_floor_little(outlier: float) -> None:
    noise = noise_of([*QUIET[:-1], outlier], ORDERS)
    assert noise.outlier_share == pytest.approx(1 / 12)
    assert noise.sigma < 0.01
    assert noise.floor < 0.01


def test_with_a_pair_fewer_one_outlier_would_set_the_floor() -> None:
    assert noise_of([*QUIET[:10], 3.0], ORDERS[:11]).floor > 1


def test_a_second_sample_that_is_always_slower_is_a_bias_of_position_and_no_effect() -> None:
    d = [-0.03 if order == "AB" else 0.03 for order in ORDERS]  # ln(base / again), the second sample being 3 % slower
    noise = noise_of(d, ORDERS)
    assert noise.position_bias == pytest.approx(0.03)
    assert noise.speedup == pytest.approx(1)


def test_a_drifting_host_shows_in_the_autocorrelation() -> None:
    drift = [0.001 * step for step in range(12)]
    alternating = [0.001 * (-1) ** step for step in range(12)]
    assert noise_of(drift, ORDERS).autocorrelation > 0.5  # type: ignore[operator]
    assert noise_of(alternating, ORDERS).autocorrelation < -0.5  # type: ignore[operator]
    assert noise_of([0.0] * 12, ORDERS).autocorrelation is None


def pairs_of(bench: Bench, d: list[float]) -> Pairs:
    """Pairs with those log ratios, such as a calibration would measure."""
    sample = Sample(
        seconds=1.0, overhead=0.0, imported=0.0, setup=0.0, total=1.0, peak_memory=1.0, digest="", output=b"",
        warm_output=b"",
    )  # fmt: skip
    return Pairs(base=[replace(sample, seconds=math.exp(one)) for one in d], candidate=[sample] * len(d))


def test_a_calibration_is_found_again_until_the_task_changes(bench: Bench) -> None:
    found = keep(bench, pairs_of(bench, QUIET), ORDERS, 1.0)
    assert stored(bench) == found
    changed = bench.task.model_copy(update={"title": "Another"})
    assert stored(replace(bench, task=changed)) is None


def test_a_calibration_is_forgotten_after_thirty_days(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(bench, pairs_of(bench, QUIET), ORDERS, 1.0)

    def days_later(days: float) -> type[datetime]:
        class Later(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return datetime.now(UTC) + timedelta(days=days)

        return Later

    monkeypatch.setattr(calibration, "datetime", days_later(29.9))
    assert stored(bench) is not None
    monkeypatch.setattr(calibration, "datetime", days_later(30.1))
    assert stored(bench) is None


def test_a_calibration_holds_for_its_packages_and_its_driver_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(bench, pairs_of(bench, QUIET), ORDERS, 1.0)
    assert stored(replace(bench, environment=replace(bench.environment, key="another"))) is None
    wanted = bench.task.resources.model_copy(update={"gpus": 1})
    on_gpu = replace(bench, task=bench.task.model_copy(update={"resources": wanted}))
    driver = "570"

    def gpus() -> list[Gpu]:
        return [Gpu(0, "NVIDIA H100", "GPU-1", driver, memory_mib=80_000)]

    for module in (calibration, lanes):
        monkeypatch.setattr(module, "gpus", gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert stored(on_gpu) is None
    keep(on_gpu, pairs_of(on_gpu, QUIET), ORDERS, 1.0)
    assert stored(on_gpu) is not None
    driver = "580"
    assert stored(on_gpu) is None


def test_a_damaged_file_is_no_calibration(bench: Bench, shared_cache: Path) -> None:
    keep(bench, pairs_of(bench, QUIET), ORDERS, 1.0)
    for file in (shared_cache / "calibration").glob("*.json"):
        file.write_text(file.read_text()[:100])
    assert stored(bench) is None


def test_certificates_in_the_folder_of_the_repository_are_no_part_of_the_tree(
    make_task: MakeTask, settings: Settings, bubblewrap: None
) -> None:
    """A task that lies in the plain folder that it is about: the tree, and so the calibration, stays what it was."""
    task = make_task()
    (task.folder / "repo" / ".git").rename(task.folder / "git")
    text = (task.folder / "task.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("repo:")]
    own = task.folder / "repo" / "speed"
    own.mkdir()
    (own / "task.yaml").write_text("\n".join([*lines, 'repo: {path: ".."}']))
    (own / "workload.py").write_text((task.folder / "workload.py").read_text())
    before = open_bench(load_task(str(own), settings), settings, ignore)
    (own / "certificates").mkdir()
    (own / "certificates" / "host.json").write_text("{}")
    after = open_bench(load_task(str(own), settings), settings, ignore)
    assert after.source.base != before.source.base
    assert after.seal.tree == before.seal.tree


def test_the_spread_of_a_pair_is_the_scaled_median_deviation_from_the_median() -> None:
    assert robust_sd([0.0, 0.1, 0.2, 0.3, 9.0]) == pytest.approx(0.14826)
    assert noise_of(QUIET, ORDERS).sigma == robust_sd(QUIET)
