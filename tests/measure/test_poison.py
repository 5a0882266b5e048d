"""Poisoned memory: what is read before it is written shows, whatever the fresh process happened to hold there."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.util import find_spec
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.tools import SessionTools
from omniperf.gateway.budget import Budget
from omniperf.measure import arms, checker, worker
from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.results.journal import Journal
from omniperf.verify.integrity.behaviour import ESCAPES_POISON
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import FAST, SLOW
from tests.verify.test_verdicts import diff

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omniperf.agents.protocol import Screening
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


def outputs(folder: Path, workload: str, *, poison: bool) -> list[Any]:
    """What one state of a workload comes to in a real worker."""
    file = folder / "workload.py"
    file.write_text(dedent(workload))
    config = {"kind": "module", "export": False, "poison": poison, "gpu": False, "flush": False, "pause": False}
    config |= {"workload": str(file), "args": [], "pythonpath": []}
    setup = b'{"do": "setup", "seeds": [7], "shape": {}, "clean": true}'
    done = subprocess.run(
        (sys.executable, "-s", "-S", "-P", worker.__file__),
        input=b"\n".join((json.dumps(config).encode(), setup, b"run", b'{"do": "export"}', b"")), capture_output=True,
        env=arms.POISONED if poison else {},
    )  # fmt: skip
    ready, made, _digest, length, rest = done.stdout.split(b"\n", 4)
    assert json.loads(ready) == {"ready": True} and json.loads(made) == {"ok": True}, done.stdout
    found: list[Any] = checker.native(checker.read(rest[: int(length)]))[0]
    return found


NUMPY = """
    import threading
    import numpy as np
    from numpy import empty

    def setup(seed):
        return seed

    def used(count):
        return sum(np.ones(n).sum() for n in range(1, count))  # leaves small blocks with ones in numpy's own cache

    def run(seed):
        used(100)
        grown, elsewhere = np.ones(2), []
        grown.resize(200, refcheck=False)
        thread = threading.Thread(target=lambda: elsewhere.append((used(100), np.ndarray(3))[1]))
        thread.start()
        thread.join()
        floats = [
            np.empty(2), np.ndarray(3), np.ndarray(100_000, dtype="f4"), np.empty(3, dtype="f2"), np.ma.empty(2).data,
            np.ndarray.__new__(np.ndarray, (2, 2)), np.empty_like(np.zeros(5)), np.empty(2, dtype=complex), *elsewhere,
        ]
        integers = [empty((1, 2), dtype="u1"), np.ndarray(4, dtype="i4"), np.ndarray(4, dtype="i8")]
        written = [np.zeros(2), np.full(2, seed), np.ones(1), np.array([1.5]) * 2, np.empty(0), np.arange(3) + 1, grown]
        return [floats, integers, written]
"""


def test_unwritten_arrays_of_numpy_hold_nan_and_large_integers_whoever_makes_them(tmp_path: Path) -> None:
    floats, integers, written = outputs(tmp_path, NUMPY, poison=True)
    assert [bool((one != one).all()) for one in floats] == [True] * 9
    assert [part.tolist() for part in integers[:2]] == [[[255, 255]], [2**31 - 1] * 4] and (integers[2] > 2**60).all()
    assert [part.tolist() for part in written[:6]] == [[0, 0], [7, 7], [1], [3], [], [1, 2, 3]]
    assert written[6].tolist() == [1] * 2 + [0] * 198


OTHER_TYPES = """
    import numpy as np

    def setup(seed):
        return seed

    def run(seed):
        pair = np.dtype([("a", "i2"), ("b", "S1")])
        made = [
            np.empty(2, dtype="M8[s]"), np.empty((2, 2), dtype="m8[D]", order="F"), np.empty(8, dtype="S3"),
            np.empty(4, dtype=pair), np.empty_like(np.zeros(8, dtype="V3").view(np.recarray)),
        ]
        left = [np.empty(2, dtype=object), np.empty(1, dtype=[("a", object), ("b", "i2")])]
        return [0 in one.tobytes() for one in made] + [left[0].tolist(), left[1]["a"].tolist()]
"""


def test_unwritten_arrays_of_other_types_hold_no_zero_and_objects_stay(tmp_path: Path) -> None:
    found = outputs(tmp_path, OTHER_TYPES, poison=True)
    assert found[:-2] == [False] * 5
    assert found[-2:] == [[None, None], [None]]


TORCH = """
    import torch

    def setup(seed):
        return seed

    def run(seed):
        weight = torch.nn.Parameter(torch.empty(2, requires_grad=True))
        grown = torch.zeros(1).resize_(40)
        floats = [
            torch.empty(2), torch.empty_strided((2,), (1,)), weight.detach(), torch.empty(2, dtype=torch.bfloat16),
            torch.Tensor(3), torch.FloatTensor(2, 2), grown[1:], torch.empty_like(torch.zeros(5)),
            torch.zeros(1).new_empty(2), torch.empty_permuted((2, 2), (0, 1)), torch.empty(10_000_000),
        ]
        others = [torch.empty_like(torch.zeros(2, dtype=torch.int32)), torch.zeros(1).new_empty(2, dtype=torch.bool)]
        torch.empty(2, device="meta")
        layer, storage = torch.nn.Linear(2, 1), torch.UntypedStorage(4).tolist()
        written = [torch.zeros(2), torch.ones(2), grown[:1], layer.weight.isnan().any()]
        lists = [[one.tolist() for one in part] for part in (others, written)]
        return [[one.isnan().all().item() for one in floats], *lists, storage]
"""


@needs_torch
def test_unwritten_tensors_of_torch_hold_nan_and_the_largest_integers_whoever_makes_them(tmp_path: Path) -> None:
    floats, others, written, storage = outputs(tmp_path, TORCH, poison=True)
    assert floats == [True] * 11
    assert others == [[2**31 - 1] * 2, [True, True]] and written == [[0, 0], [1, 1], [0], False]
    assert storage == [0x7F] * 4


NATIVE = """
    import ctypes

    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.calloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]

    def taken(make, *size):
        return {*ctypes.string_at(make(*size), 64)}

    def setup(seed):
        return seed

    def run(seed):
        for size in (64, 2000, 300_000):
            at = libc.malloc(size)
            ctypes.memset(at, 1, size)
            libc.free(at)
        return [taken(libc.malloc, size) for size in (64, 2000, 300_000)] + [taken(libc.calloc, 64, 1)]
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of this host is not glibc's")
def test_what_malloc_gives_to_any_extension_is_neither_zero_nor_what_was_there(tmp_path: Path) -> None:
    assert outputs(tmp_path, NATIVE, poison=True) == [{0x7F}, {0x7F}, {0x7F}, {0}]
    assert outputs(tmp_path, NATIVE, poison=False)[0] != {0x7F}


def test_nothing_is_spoilt_unasked(tmp_path: Path) -> None:
    text = NUMPY.replace("return [floats", "return [np._core.multiarray.get_handler_name(), floats")
    assert outputs(tmp_path, text, poison=False)[0] == "default_allocator"


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
    assert proved.poisonable
    lucky, right = (
        verify_patch(summing, diff("toy/sums.py", SUMS, text), proved, lambda line: None, ignore)
        for text in (LUCKY, RIGHT)
    )
    assert (lucky.class_, lucky.correctness.memory_written) == ("incorrect", False), lucky
    assert "read unwritten" in lucky.reason and "output[0][0] is nan" in lucky.correctness.detail
    assert (right.class_, right.correctness.memory_written) == ("improved", True), right


@pytest.mark.usefixtures("unread")
def test_what_poison_does_not_reach_is_not_called_checked(summing: Bench) -> None:
    proved = preflight(summing, ignore)
    text = f"{RIGHT}\n\ndef spare(cupy):\n    return cupy.empty(3)\n"
    verdict = verify_patch(summing, diff("toy/sums.py", SUMS, text), proved, lambda line: None, ignore)
    assert (verdict.class_, verdict.correctness.memory_written) == ("improved", None), verdict
    (finding,) = verdict.findings
    assert finding.id == "memory-not-checked" and "cupy.empty(3)" in finding.evidence


def test_memory_that_no_poison_reaches() -> None:
    for line in (
        "x = cupy.empty_like(y)",
        "x = cp.ndarray(3)",
        "x = cuda.device_array(3)",
        "cudaMallocAsync(&x, 8);",
    ):
        assert ESCAPES_POISON.search(f"+++ b/x.py\n+    {line}\n".encode())
        assert not ESCAPES_POISON.search(f"+++ b/x.py\n-    {line}\n     {line}\n".encode())
    for line in ("x = np.ndarray(3)", "x = torch.Tensor(3)", "x.resize_(3)", "x = torch.empty(3)"):
        assert not ESCAPES_POISON.search(f"+    {line}\n".encode())


@pytest.mark.parametrize("make", ["np.ndarray(len(values) + 1)", "np.ma.empty(len(values) + 1).data"])
def test_arrays_that_no_function_named_empty_makes_are_spoilt_too(summing: Bench, make: str) -> None:
    text = LUCKY.replace("np.empty(len(values) + 1)", make)
    verdict = verify_patch(summing, diff("toy/sums.py", SUMS, text), preflight(summing, ignore), print, ignore)
    assert (verdict.class_, verdict.correctness.memory_written) == ("incorrect", False), verdict


def test_the_benchmark_tool_asks_too(summing: Bench, tmp_path: Path) -> None:
    proved = preflight(summing, ignore)
    workspace, budget = summing.workspace("agent"), Budget(summing.task.limits)
    try:
        with (
            Journal(tmp_path / "journal.jsonl") as journal,
            SessionTools(summing, workspace, proved, budget, journal, ignore) as tools,
        ):

            def decided() -> Screening:  # screening may leave it open on a host that is busy just then
                tries = (tools.benchmark() for _ in range(4))
                return next(found for found in tries if found.decision != "undecided")

            tools.create("toy/sums.py", LUCKY)
            lucky = decided()
            tools.create("toy/sums.py", RIGHT)
            right = decided()
    finally:
        workspace.remove()
    assert (lucky.decision, lucky.outputs_equal, lucky.memory_checked) == ("failed", False, False)
    assert "spoilt" in lucky.reason
    assert (right.decision, right.outputs_equal, right.memory_checked) == ("faster", True, True)


@pytest.mark.usefixtures("unread")
def test_where_it_cannot_be_asked_a_patch_that_takes_unwritten_memory_is_marked(bench: Bench) -> None:
    proved = preflight(bench, ignore).model_copy(update={"poisonable": False})
    text = FAST + "\n\ndef spare(torch):\n    return torch.empty_like(3)\n"
    marked, plain = (
        verify_patch(bench, diff("toy/order.py", SLOW, after), proved, lambda line: None, ignore)
        for after in (text, FAST)
    )
    assert [finding.id for finding in marked.findings] == ["memory-not-checked"]
    assert (marked.class_, marked.correctness.memory_written, plain.findings) == ("improved", None, ())
