"""Poisoned memory: what is read before it is written shows, whatever the fresh process happened to hold there."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.budget import Budget
from omniperf.agents.tools import SessionTools
from omniperf.measure import checker, worker
from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.results.journal import Journal
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import ESCAPES_POISON, verify_patch
from tests.conftest import FAST, SLOW
from tests.verify.test_verdicts import diff

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


def outputs(folder: Path, workload: str, *, poison: bool) -> tuple[list[Any], list[str]]:
    """What one state of a workload comes to in a real worker, and which libraries it says it spoilt."""
    file = folder / "workload.py"
    file.write_text(dedent(workload))
    config = {"kind": "module", "export": False, "poison": poison, "gpu": False, "flush": False}
    config |= {"workload": str(file), "args": [], "pythonpath": []}
    requests = [json.dumps(config).encode(), b'{"do": "setup", "seeds": [7]}', b"run", b'{"do": "export"}']
    done = subprocess.run(
        (sys.executable, "-I", "-S", worker.__file__),
        input=b"\n".join((*requests, *([b'{"do": "poisoned"}'] if poison else []), b"")), capture_output=True,
    )  # fmt: skip
    ready, made, _digest, length, rest = done.stdout.split(b"\n", 4)
    assert json.loads(ready) == {"ready": True} and json.loads(made) == {"ok": True}, done.stdout
    blob, told = rest[: int(length)], rest[int(length) :]
    found = checker.native(checker.read(blob))[0]
    return found, json.loads(told)["libraries"] if poison else []


NUMPY = """
    import numpy as np
    from numpy import empty

    def setup(seed):
        return seed

    def run(seed):
        like = np.empty_like(np.zeros(2, dtype=bool))
        return [np.empty(2), empty((1, 2), dtype="u1"), like, np.empty(0), np.zeros(2), np.full(2, seed), np.ones(1)]
"""


def test_unwritten_arrays_of_numpy_hold_nan_and_the_largest_integers(tmp_path: Path) -> None:
    found, libraries = outputs(tmp_path, NUMPY, poison=True)
    assert libraries == ["numpy"]
    assert all(math.isnan(value) for value in found[0])
    assert [part.tolist() for part in found[1:]] == [[[255, 255]], [True, True], [], [0, 0], [7, 7], [1]]


OTHER_TYPES = """
    import numpy as np

    def setup(seed):
        return seed

    def run(seed):
        pair = np.dtype([("a", "i2"), ("b", "S1")])
        turned = np.zeros((2, 3, 4), dtype="M8[s]").transpose(2, 0, 1)
        made = [
            np.empty(2, dtype="M8[s]"), np.empty((2, 2), dtype="m8[D]", order="F"), np.empty(2, dtype="S3"),
            np.empty((), dtype="U2"), np.empty(2, dtype=pair), np.empty_like(turned), np.empty(0, dtype="S1"),
            np.empty_like(np.zeros(2, dtype="V3").view(np.recarray)),
        ]
        left = [np.empty(2, dtype=object), np.empty(1, dtype=[("a", object), ("b", "i2")])]
        return [set(one.tobytes()) for one in made] + [left[0].tolist(), left[1]["a"].tolist()]
"""


def test_unwritten_arrays_of_other_types_hold_ones_and_objects_stay(tmp_path: Path) -> None:
    found, _ = outputs(tmp_path, OTHER_TYPES, poison=True)
    ones, none = {255}, set[int]()
    assert found[:-2] == [ones, ones, ones, ones, ones, ones, none, ones]
    assert found[-2:] == [[None, None], [None]]


TORCH = """
    import torch

    def setup(seed):
        return seed

    def run(seed):
        weight = torch.nn.Parameter(torch.empty(2, requires_grad=True))
        made = [
            torch.empty(2), torch.empty_like(torch.zeros(2, dtype=torch.int32)), torch.empty_strided((2,), (1,)),
            torch.zeros(1).new_empty(2, dtype=torch.bool), weight.detach(), torch.empty(2, dtype=torch.bfloat16),
        ]
        torch.empty(2, device="meta")
        layer = torch.nn.Linear(2, 1)
        return [*(one.tolist() for one in made), torch.zeros(2).tolist(), layer.weight.isnan().any().item()]
"""


@needs_torch
def test_unwritten_tensors_of_torch_hold_nan_and_the_largest_integers(tmp_path: Path) -> None:
    found, libraries = outputs(tmp_path, TORCH, poison=True)
    assert "torch" in libraries
    for floats in (found[0], found[2], found[4], found[5]):
        assert all(math.isnan(value) for value in floats)
    assert found[1] == [2**31 - 1] * 2 and found[3] == [True, True]
    assert found[6] == [0, 0] and found[7] is False


def test_nothing_is_spoilt_unasked_nor_where_there_are_no_arrays(tmp_path: Path) -> None:
    workload = "def setup(seed): return seed\ndef run(seed): return [seed]\n"
    assert outputs(tmp_path, workload, poison=True) == ([7], [])
    text = NUMPY + "\n    assert np.empty.__module__ == np.zeros.__module__ and not hasattr(np.empty, '__wrapped__')\n"
    assert outputs(tmp_path, text, poison=False)[1] == []


SUMS = """\
import numpy as np


def sums(values):
    ends = np.zeros(len(values) + 1)
    rows = np.zeros((400, len(values)))
    for row in range(400):
        rows[row] = np.array([float(value) for value in values])
    rows = rows.mean(axis=0)
    ends[1:] = np.cumsum(rows)
    return ends.tolist()
"""
LUCKY = SUMS.replace("ends = np.zeros(", "ends = np.empty(").replace("range(400)", "range(200)").replace("(400", "(200")
RIGHT = LUCKY.replace("    ends[1:]", "    ends[0] = 0\n    ends[1:]")
# Fresh memory of the system is zero, so leaving the first element unwritten would go unnoticed.
WORKLOAD = """\
import random
from toy.sums import sums
def setup(seed): return [random.Random(seed).random() for _ in range(300)]
def run(state): return sums(state)
"""


@pytest.fixture
def summing(make_task: Callable[..., Task], settings: Settings, bubblewrap: None) -> Bench:
    extra = """\
    measure: {max_minutes: 1}
    """
    task = make_task(extra, WORKLOAD, {"toy/sums.py": SUMS})
    setup = task.environment.model_copy(update={"setup": ("pip install numpy",)})
    try:
        return open_bench(task.model_copy(update={"environment": setup}), settings, ignore)
    except Exception as error:
        pytest.skip(f"numpy cannot be installed for the task: {error}")


def test_a_patch_must_survive_poisoned_memory(summing: Bench) -> None:
    proved = preflight(summing, ignore)
    assert proved.memory == "poisonable"
    lucky, right = (
        verify_patch(summing, diff("toy/sums.py", SUMS, text), proved, lambda line: None, ignore)
        for text in (LUCKY, RIGHT)
    )
    assert (lucky.class_, lucky.correctness.memory_written) == ("incorrect", False), lucky
    assert "read unwritten" in lucky.reason and "output[0][0] is nan" in lucky.correctness.detail
    assert (right.class_, right.correctness.memory_written) == ("improved", True), right


def test_what_poison_does_not_reach_is_not_called_checked(summing: Bench) -> None:
    proved = preflight(summing, ignore)
    text = RIGHT.replace("np.empty(len(values) + 1)", "np.ndarray((len(values) + 1,))")
    verdict = verify_patch(summing, diff("toy/sums.py", SUMS, text), proved, lambda line: None, ignore)
    assert (verdict.class_, verdict.correctness.memory_written) == ("improved", None), verdict
    (finding,) = verdict.findings
    assert finding.id == "memory-not-checked" and "np.ndarray(" in finding.evidence


@pytest.mark.parametrize(
    "line",
    [
        "x = np.ndarray((3,))",
        "x = ndarray.__new__(ndarray, 3)",
        "x = np.recarray(3, dtype=d)",
        "x = np.ma.empty(3)",
        "x = torch.Tensor(2, 3)",
        "x = torch.cuda.FloatTensor(n)",
        "x = Tensor(*shape)",
        "x.resize_(9)",
        "x.resize_as_(y)",
    ],
)
def test_constructors_that_poison_does_not_reach(line: str) -> None:
    assert ESCAPES_POISON.search(f"+++ b/x.py\n+    {line}\n".encode())
    assert not ESCAPES_POISON.search(f"+++ b/x.py\n-    {line}\n     {line}\n".encode())


@pytest.mark.parametrize(
    "line",
    [
        "x = torch.Tensor([1, 2])",
        "x = torch.FloatTensor(((1, 2), (3, 4)))",
        "isinstance(x, np.ndarray)",
        "def f(x: torch.Tensor) -> torch.Tensor:",
        "x = from_ndarray(3)",
        "x = KeyedJaggedTensor(3)",
        "x.resize(3)",
        "x = np.empty(3)",
    ],
)
def test_what_is_written_or_poisoned_does_not_escape(line: str) -> None:
    assert not ESCAPES_POISON.search(f"+    {line}\n".encode())


def test_the_benchmark_tool_asks_too(summing: Bench, tmp_path: Path) -> None:
    proved = preflight(summing, ignore)
    workspace, budget = summing.workspace("agent"), Budget(summing.task.limits)
    try:
        with (
            Journal(tmp_path / "journal.jsonl") as journal,
            SessionTools(summing, workspace, proved, budget, journal, ignore) as tools,
        ):
            tools.create("toy/sums.py", LUCKY)
            lucky = tools.benchmark()
            tools.create("toy/sums.py", RIGHT)
            right = tools.benchmark()
    finally:
        workspace.remove()
    assert (lucky.decision, lucky.outputs_equal, lucky.memory_checked) == ("failed", False, False)
    assert "spoilt" in lucky.reason
    assert (right.decision, right.outputs_equal, right.memory_checked) == ("faster", True, True)


def test_where_it_cannot_be_asked_a_patch_that_takes_unwritten_memory_is_marked(bench: Bench) -> None:
    proved = preflight(bench, ignore)
    assert proved.memory == "no arrays"
    text = FAST + "\n\ndef spare(torch):\n    return torch.empty_like(3)\n"
    marked, plain = (
        verify_patch(bench, diff("toy/order.py", SLOW, after), proved, lambda line: None, ignore)
        for after in (text, FAST)
    )
    assert [finding.id for finding in marked.findings] == ["memory-not-checked"]
    assert (marked.class_, marked.correctness.memory_written, plain.findings) == ("improved", None, ())
