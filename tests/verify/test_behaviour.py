"""What a candidate does to its inputs, for other shapes and to precision is compared with what base does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from omniperf.errors import UsageError
from omniperf.measure import worker
from omniperf.measure.arms import make_arm
from omniperf.measure.bench import Bench, open_bench
from omniperf.measure.lanes import LaneClock
from omniperf.results.events import ignore
from omniperf.results.schema import Correctness
from omniperf.settings import Settings
from omniperf.verify.behaviour import check_behaviour
from omniperf.verify.preflight import preflight
from tests.conftest import FAST, SLOW, WORKLOAD
from tests.verify.test_verdicts import diff

Behave = Callable[..., tuple[str, Correctness]]
Open = Callable[..., Bench]


@pytest.fixture
def opened(make_task: Callable[..., object], settings: Settings, bubblewrap: None) -> Open:
    """The bench of a task of that workload, base and YAML; without tests."""

    def made(base: str = SLOW, workload: str = WORKLOAD, extra: str = "") -> Bench:
        task = make_task(extra, workload, {"toy/order.py": base})
        return open_bench(task.model_copy(update={"tests": ()}), settings, ignore)  # type: ignore[attr-defined]

    return made


@pytest.fixture
def behave(opened: Open, tmp_path: Path) -> Behave:
    """Check a change of toy/order.py, and nothing else of a verdict."""

    def run(patched: str, base: str = SLOW, **task: str) -> tuple[str, Correctness]:
        bench = opened(base, **task)
        proved = preflight(bench, ignore)
        with bench.tree("base") as one, bench.tree("candidate", diff("toy/order.py", base, patched)) as other:
            arms = (
                make_arm(name, bench.task, bench.environment, bench.backend, tree, tmp_path)
                for name, tree in (("base", one), ("candidate", other))
            )
            return check_behaviour(bench, proved, *arms, LaneClock())[:2]

    return run


def test_an_honest_patch_is_said_to_be_checked(behave: Behave) -> None:
    wrong, found = behave(FAST)
    assert (wrong, found.fresh_states, found.shapes_compared) == ("", 3, 0)
    assert (found.memory_written, found.inputs_kept, found.precision_kept) == (True, True, None)
    assert found.probes_held == ("identity-cache", "second-process")


CLEARS = FAST.replace(
    "return list(dict.fromkeys(items))", "found = list(dict.fromkeys(items))\n    items.clear()\n    return found"
)
SORTS = SLOW.replace("    seen = []", "    items.sort()\n    seen = []")
TWO = WORKLOAD.replace("return [", "return {'numbers': [").replace("range(2000)]", "range(2000)], 'names': ['a', 'b']}")
TWO = TWO.replace("distinct(state)", "distinct(state['numbers'], state['names'])")
NAMED = SORTS.replace("(items)", "(items, names)")
OPAQUE = (
    WORKLOAD.replace("def setup", "class Box:\n    pass\n\n\ndef setup")
    .replace("return [", "box = Box()\n    box.numbers = [")
    .replace("range(2000)]", "range(2000)]\n    return box")
    .replace("distinct(state)", "distinct(state.numbers)")
)


def test_an_input_that_only_the_patch_changes(behave: Behave) -> None:
    wrong, found = behave(CLEARS)
    assert found.inputs_kept is False
    assert wrong == "run changes its input where base's does not: state[0], state[1], state[2]."


def test_inputs_that_base_changes_are_not_checked_and_others_are(behave: Behave) -> None:
    wrong, found = behave(NAMED.replace("return seen", "names.pop()\n    return seen"), NAMED, workload=TWO)
    assert found.inputs_kept is False
    assert "state[0]['names']" in wrong and "numbers" not in wrong


@pytest.mark.parametrize(("base", "workload"), [(SORTS, WORKLOAD), (SLOW, OPAQUE)], ids=["changed", "opaque"])
def test_inputs_of_which_nothing_can_be_looked_at_are_never_called_kept(
    behave: Behave, base: str, workload: str
) -> None:
    wrong, found = behave(base.replace("return seen", "items.clear()\n    return seen"), base, workload=workload)
    assert (wrong, found.inputs_kept) == ("", None)


SHAPED = WORKLOAD.replace("setup(seed)", "setup(seed, count=2000)").replace("range(2000)", "range(count)")
SHAPES = "shapes: [{count: 1000}, {count: 1021}]"
ONE_SHAPE = SLOW.replace("return seen", "return seen if len(items) % 1000 == 0 else seen[1:]")


def test_other_shapes_must_give_bases_outputs_too(behave: Behave) -> None:
    wrong, found = behave(ONE_SHAPE, workload=SHAPED, extra=SHAPES)
    assert wrong.startswith("The outputs are not base's with {'count': 1021}: output[0] has 1020 items")
    assert found.outputs_equal is False


def test_shapes_that_hold_are_counted(behave: Behave) -> None:
    wrong, found = behave(FAST, workload=SHAPED, extra=SHAPES)
    assert (wrong, found.shapes_compared) == ("", 2)


@pytest.mark.parametrize(
    ("workload", "base", "said"),
    [
        (WORKLOAD, SLOW, "setup of its workload does not take count, which `shapes` gives"),
        (SHAPED, SLOW.replace("return seen", "return seen if len(items) == 2000 else 1 / 0"), "ZeroDivisionError"),
        (
            SHAPED,
            SLOW.replace("return seen", "import os\n    return seen if len(items) == 2000 else [os.urandom(9)]"),
            "two outputs for one seed",
        ),
        ("from toy.order import distinct\nprint(distinct([1]))\n", SLOW, "a script has none"),
    ],
    ids=["unknown keyword", "base raises", "base varies", "script"],
)  # fmt: skip
def test_shapes_that_base_does_not_stand_are_refused(opened: Open, workload: str, base: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        preflight(opened(base, workload, SHAPES), ignore)
    assert refused.value.remedy


MEANS = """\
def means(rows):
    return [sum(row) / len(row) for row in rows]
"""
AVERAGES = """\
import math
import random

from toy.order import means


def setup(seed):
    rng = random.Random(seed)
    return [[rng.random() for _ in range(200)] for _ in range(100)]


def run(state):
    return means(state)


def check(output, reference):
    assert all(abs(one - other) < 1e-3 for one, other in zip(output, reference, strict=True))


def reference(state):
    return [math.fsum(row) / len(row) for row in state]
"""
EXACT = "import math\n\n\n" + MEANS.replace("sum(row)", "math.fsum(row)")
ROUNDED = "import struct\n\n\n" + MEANS.replace(
    "[sum(row) / len(row) for", "[struct.unpack('f', struct.pack('f', sum(row) / len(row)))[0] for"
)
NEAR = MEANS.replace("/ len(row)", "/ len(row) * (1 + 1e-9)")


@pytest.mark.parametrize(
    ("patched", "said", "kept"),
    [
        (EXACT, "", True),
        (NEAR, "precision lost: the largest error of output", False),
        (ROUNDED, "precision lowered: output[0] has float64 values rounded to float32", None),
    ],
    ids=["more exact", "less exact", "rounded"],
)
def test_precision_is_no_worse_than_bases_whatever_a_check_lets_pass(
    behave: Behave, patched: str, said: str, kept: bool | None
) -> None:
    wrong, found = behave(patched, MEANS, workload=AVERAGES)
    assert found.precision_kept is kept
    assert said in wrong if said else not wrong


def test_a_reference_that_cannot_be_compared_with_is_refused(opened: Open) -> None:
    workload = AVERAGES.replace("for row in state]\n", "for row in state[1:]]\n")
    with pytest.raises(UsageError, match="reference cannot be compared with"):
        preflight(opened(MEANS, workload), ignore)


def test_a_tensor_that_stays_on_its_device_is_told_from_a_changed_one() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.randn(1000, 7)
    changed, swapped = tensor.clone(), tensor.clone()
    changed[3, 4] += 1e-6
    swapped[0], swapped[1] = tensor[1], tensor[0]
    sums = worker.sums_on_device(torch, tensor)
    assert worker.sums_on_device(torch, tensor.clone()) == sums
    others = (changed, swapped, tensor.reshape(7, 1000), torch.empty(0), torch.tensor(True))
    assert len({sums, *(worker.sums_on_device(torch, other) for other in others)}) == 6


KEEPS = """\
_kept = {}


def distinct(items):
    if id(items) not in _kept:
        _kept[id(items)] = items, list(dict.fromkeys(items))
    return _kept[id(items)][1]
"""


def test_a_probe_that_base_does_not_stand_accuses_nobody(behave: Behave) -> None:
    assert behave(FAST, base=KEEPS)[0] == ""


def test_another_input_in_the_same_object_gets_its_own_output(behave: Behave) -> None:
    assert "an object that was an input before" in behave(KEEPS)[0]
