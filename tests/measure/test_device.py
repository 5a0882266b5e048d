"""What disturbs a GPU makes a pair worthless; what is ordinary does not."""

from dataclasses import replace

import pytest

from omniperf.measure.device import DeviceState, disturbance, look, memory_used

QUIET = DeviceState("GPU-0", 1980, 2619, 40, 100, 0x1, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"throttle": 0x4}, ""),
        ({"sm_clock_mhz": 345}, ""),
        ({"throttle": 0x8}, "hardware slowdown"),
        ({"throttle": 0x21}, "heat"),
        ({"throttle": 0x80}, "power brake"),
        ({"processes": (4711,)}, "process 4711"),
    ],
)
def test_a_state_after_a_pair(change: dict[str, object], reason: str) -> None:
    found = disturbance((QUIET,), (replace(QUIET, **change),))  # type: ignore[arg-type]
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_process_that_was_there_before_disturbs_too() -> None:
    assert "process 1" in disturbance((replace(QUIET, processes=(1,)),), (QUIET,))


def test_a_gpu_that_went_away() -> None:
    assert disturbance((QUIET,), ()) == "a GPU went away"


def test_without_gpus_nothing_is_looked_at() -> None:
    assert look(()) == ()
    assert memory_used(()) == 0
    assert disturbance((), ()) == ""
