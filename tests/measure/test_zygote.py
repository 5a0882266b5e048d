"""Samples forked from a zygote: as confined as those of a fresh interpreter, and worth the same verdict."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from omniperf.measure import lanes
from omniperf.measure.arms import make_arm, sealed
from omniperf.measure.bench import Bench, open_bench
from omniperf.measure.checker import read
from omniperf.measure.clock import Arm, Sample, Timing, Worker, sample
from omniperf.measure.lanes import find_lanes
from omniperf.measure.zygote import Zygote, ZygoteError, Zygotes
from omniperf.results.events import ignore
from omniperf.settings import Settings
from omniperf.tasks.schema import Task
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import FAST, MEASURED, SLOW
from tests.verify.test_verdicts import diff

pytestmark = MEASURED

SLOWER = SLOW.replace("if item not in seen:", "if item not in seen and item not in seen[::2]:")
PRELOAD = ("decimal", "fractions", "asyncio")
# A workload whose output is what code of the tree finds around it.
LOOKS = """\
import json, os, sys
from toy.order import distinct

PLACES = ("/tmp", "/dev/shm", "/home/agent", "/dev", "/", "/workspace", "/env")

def listed(place):
    try:
        return sorted(os.listdir(place))
    except OSError as error:
        return type(error).__name__

def left(place):
    try:
        with open(os.path.join(place, "left-behind"), "x"):
            return "new"
    except OSError as error:
        return type(error).__name__

def setup(seed):
    return seed

seen = []

def run(state):
    seen.append(seen[0] if seen else look())  # the warm-up's: it comes first
    return seen[-1]

def look():
    with open("/proc/self/status") as status:
        rows = dict(row.split(":", 1) for row in status)
    return json.dumps({
        "arms": listed("/arms"), "pids": [name for name in listed("/proc") if name.isdigit()],
        "tree": listed("/workspace"), "git": open("/workspace/.git").read(),
        "left": {place: left(place) for place in PLACES},
        "capabilities": rows["CapEff"].strip() + rows["CapPrm"].strip(),
        "uid": os.getuid(), "new_privileges": rows["NoNewPrivs"].strip(), "threads": rows["Threads"].strip(),
        "descriptors": len(listed("/proc/self/fd")), "path": sys.path, "prefix": sys.prefix, "cwd": os.getcwd(),
        "preloaded": "decimal" in sys.modules, "affinity": sorted(os.sched_getaffinity(0)),
        "environment": sorted(os.environ.items()),
    }, sort_keys=True)
"""


@pytest.fixture
def arms(make_task: Callable[..., Task], settings: Settings, tmp_path: Path, bubblewrap: None) -> Iterator[Any]:
    """Make a bench of a workload, with two sealed arms whose trees differ."""
    with ExitStack() as stack:

        def make(workload: str) -> tuple[Bench, list[Arm]]:
            bench = open_bench(make_task("", workload), settings, ignore)
            trees = [stack.enter_context(bench.tree(name)) for name in ("base", "candidate")]
            (trees[1].tree / "only-the-candidate").touch()
            common = (bench.task, bench.environment, bench.backend)
            made = [
                make_arm(name, *common, tree, tmp_path) for name, tree in zip(("base", "candidate"), trees, strict=True)
            ]
            lane = find_lanes(bench.task.resources)[0]
            return bench, [sealed(arm, lane) for arm in made]

        yield make


def forked(bench: Bench, arms: list[Arm], of: list[int]) -> list[Sample]:
    """One sample after the other from one zygote."""
    with Zygotes(bench.backend, PRELOAD) as zygotes:
        zygote = zygotes.of_block(arms)
        return [sample(bench.backend, arms[which], bench.task, bench.kind, [7, 8], Timing(1), zygote) for which in of]


def seen(taken: Sample) -> dict[str, Any]:
    return dict(json.loads(read(taken.output)[0]))


def test_a_child_sees_what_a_fresh_interpreter_sees(arms: Any) -> None:
    bench, both = arms(LOOKS)
    fresh = seen(sample(bench.backend, both[1], bench.task, bench.kind, [7, 8], Timing(1)))
    child = seen(forked(bench, both, [1])[0])
    assert child.pop("preloaded")
    assert not fresh.pop("preloaded")
    assert child.pop("arms") == []
    assert fresh.pop("arms") == "FileNotFoundError"
    assert child.pop("new_privileges") == "1"
    fresh.pop("new_privileges")
    assert child["capabilities"].strip("0") == ""
    assert child == fresh


def test_children_leave_each_other_nothing_and_see_no_process(arms: Any) -> None:
    bench, both = arms(LOOKS)
    first, other, again = map(seen, forked(bench, both, [1, 0, 1]))
    assert first["left"]["/tmp"] == other["left"]["/tmp"] == again["left"]["/tmp"] == "new"
    assert first == again
    assert len(first["pids"]) == 2  # the worker, and the first process of its namespace
    assert "only-the-candidate" in first["tree"]
    assert "only-the-candidate" not in other["tree"]


HOSTILE = {
    "uncovering the other arm": "import ctypes\nctypes.CDLL(None).umount2(b'/arms', 2)\nopen('/arms/base/workspace/a')",
    "a mount": "import ctypes\nif ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None): raise OSError('refused')",
    "root": "import os; os.setuid(0)" if os.getuid() == 0 else "import os; os.setgroups([])",
    "tracing its parent": "import ctypes\nif ctypes.CDLL(None).ptrace(16, 1, 0, 0): raise OSError('refused')",
    "reading its parent": "open('/proc/1/environ').read(); open('/proc/1/mem', 'rb')",
    "the channel": "import socket; [socket.socket(fileno=n).send(b'{}') for n in range(3, 40)]",
}


@pytest.mark.parametrize("attempt", HOSTILE)
def test_a_child_is_refused(arms: Any, attempt: str) -> None:
    body = "".join(f"        {line}\n" for line in HOSTILE[attempt].splitlines())
    workload = (
        "from toy.order import distinct\ndef setup(seed): return seed\n"
        f"def run(state):\n    try:\n{body}    except OSError:\n        return 'refused'\n    return 'done'\n"
    )
    bench, both = arms(workload)
    (taken,) = forked(bench, both, [1])
    assert b"refused" in taken.output


def test_a_child_that_dies_is_told_from_one_that_is_killed(arms: Any) -> None:
    bench, both = arms(
        "import os\nfrom toy.order import distinct\ndef setup(seed): os._exit(7)\ndef run(state): return 1\n"
    )
    with Zygotes(bench.backend, PRELOAD) as zygotes:
        zygote = zygotes.of_block(both)
        with (
            pytest.raises(Exception, match="exited with status 7"),
            Worker(bench.backend, both[0], bench.task, bench.kind, zygote) as worker,
        ):
            worker.setup([1], 10.0)


def test_killing_a_child_takes_what_it_started(arms: Any) -> None:
    workload = (
        "import subprocess\nfrom toy.order import distinct\n"
        "def setup(seed): subprocess.Popen(['sleep', '1000'], start_new_session=True)\ndef run(state): return 1\n"
    )
    bench, both = arms(workload)
    with Zygotes(bench.backend, PRELOAD) as zygotes:
        zygote = zygotes.of_block(both)
        with Worker(bench.backend, both[0], bench.task, bench.kind, zygote) as worker:
            worker.setup([1], 10.0)
            inside = worker._inside()
            assert len(inside) == 2
        assert not any(Path(f"/proc/{pid}").exists() and _state(pid) != "Z" for pid in inside)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_module_that_cannot_be_imported_beforehand_is_left_to_the_workers(arms: Any) -> None:
    bench, both = arms(LOOKS)
    with Zygotes(bench.backend, ("decimal", "this_is_nowhere", "fractions")) as zygotes:
        zygote = zygotes.of_block(both)
        assert seen(sample(bench.backend, both[0], bench.task, bench.kind, [7, 8], Timing(1), zygote))["preloaded"]


def test_a_zygote_that_ends_says_so(arms: Any) -> None:
    bench, both = arms(LOOKS)
    zygote = Zygote(bench.backend, both, PRELOAD, both[0].spec.cores)
    zygote.wait()
    zygote._process.kill()
    zygote._process.wait()
    with pytest.raises(ZygoteError):
        zygote.child(both[0])
    zygote.close()


@pytest.mark.parametrize(("patched", "verdict"), [(FAST, "improved"), (SLOWER, "regressed")])
def test_the_verdict_does_not_depend_on_how_samples_are_started(bench: Bench, patched: str, verdict: str) -> None:
    proved = preflight(bench, ignore)
    slow_to_import = proved.model_copy(update={"preload": PRELOAD, "import_seconds": 2.0})
    classes = []
    for facts in (proved, slow_to_import):
        lines: list[Any] = []
        found = verify_patch(bench, diff("toy/order.py", SLOW, patched), facts, lines.append, ignore)
        classes.append(found.class_)
        assert not any("zygote" in line for line in lines)
    assert classes == [verdict, verdict]
    assert slow_to_import.forkable
    assert not proved.forkable


def test_a_zygote_that_fails_half_way_costs_pairs_and_no_verdict(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    proved = preflight(bench, ignore).model_copy(update={"preload": PRELOAD, "import_seconds": 2.0})
    children, child = [], Zygote.child

    def dies(self: Zygote, arm: Arm) -> Any:
        children.append(arm.name)
        if len(children) == 4:
            self._process.kill()
            self._process.wait()
        return child(self, arm)

    monkeypatch.setattr(Zygote, "child", dies)
    lines: list[Any] = []
    found = verify_patch(bench, diff("toy/order.py", SLOW, FAST), proved, lines.append, ignore)
    assert found.class_ == "improved"
    assert next(line["discarded"] for line in lines if "discarded" in line).startswith("the zygote failed")
    assert len(children) == 4


def test_who_waits_for_a_lane_holds_no_cores_for_the_next_zygote(
    arms: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first in the line could wait for those cores, and their holder behind it."""
    monkeypatch.setattr(lanes, "_LOCKS", tmp_path)
    bench, made = arms(LOOKS)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(50, 58)))
    beside = lanes.Lane((51,))
    with Zygotes(bench.backend, PRELOAD) as zygotes:
        zygotes.of_block(made)
        assert lanes.at_once(beside) is None
        zygotes.settle()
        held = lanes.at_once(beside)
        assert held is not None
        held.close()
