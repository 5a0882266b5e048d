"""Each kind of patch gets its class, from the harness's own measurement alone."""

import difflib
from collections.abc import Callable

import pytest

from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.results.schema import Verdict
from omniperf.settings import Settings
from omniperf.verify.preflight import Preflight, preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import FAST, MEASURED, SLOW

pytestmark = MEASURED


def diff(path: str, before: str, after: str) -> bytes:
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
    return "".join(lines).encode()


def order(after: str) -> bytes:
    return diff("toy/order.py", SLOW, after)


def added(path: str, text: str) -> bytes:
    body = "".join(f"+{line}\n" for line in text.splitlines())
    return f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{text.count(chr(10))} @@\n{body}".encode()


@pytest.fixture
def proved(bench: Bench) -> Preflight:
    return preflight(bench, ignore)


@pytest.fixture
def verify(bench: Bench, proved: Preflight) -> Callable[[bytes], Verdict]:
    return lambda data: verify_patch(bench, data, proved, lambda line: None, ignore)


SLOWER = SLOW.replace("            seen.append(item)", "            seen = [*seen, item]")
WRONG = SLOW.replace("return seen", "return seen[:-1] if len(seen) > 100 else seen")
FAILS_TESTS = SLOW.replace("return seen", "return sorted(seen)")
RAISES = SLOW.replace("return seen", "return seen if len(items) < 100 else 1 / 0")
NEVER_SAME = SLOW.replace("return seen", "import time\n    return seen if len(items) < 100 else [time.time()]")

CLASSES = {
    "faster": (order(FAST), "improved", "at least"),
    "slower": (order(SLOWER), "regressed", "at most"),
    "nothing": (b"", "no_patch", "no patch"),
    "blank": (b"\n  \n", "no_patch", "no patch"),
    "garbage": (b"this is no diff\n", "invalid", "does not apply"),
    "made for another base": (order(FAST).replace(b"not in seen", b"not in SEEN"), "invalid", "does not apply"),
    "syntax error": (order(SLOW.replace("for item in items:", "for item in items")), "invalid", "does not build"),
    "out of scope": (added("other/module.py", "x = 1\n"), "rejected", "outside the task's targets"),
    "the tests": (added("tests/conftest.py", "x = 1\n"), "rejected", "protected"),
    "start-up code": (added("toy/sitecustomize.py", "x = 1\n"), "rejected", "protected"),
    "fast and out of scope": (order(FAST) + added("setup.py", "x = 1\n"), "rejected", "protected"),
    "other outputs": (order(WRONG), "incorrect", "not base's"),
    "tests fail": (order(FAILS_TESTS), "incorrect", "tests pass on base and fail"),
    "raises": (order(RAISES), "incorrect", "ZeroDivisionError"),
    "never the same": (order(NEVER_SAME), "incorrect", "not base's"),
}


@pytest.mark.parametrize(("patch", "wanted", "reason"), CLASSES.values(), ids=CLASSES.keys())
def test_the_class_of(verify: Callable[[bytes], Verdict], patch: bytes, wanted: str, reason: str) -> None:
    verdict = verify(patch)
    assert (verdict.class_, reason in verdict.reason) == (wanted, True), verdict


def test_a_comment_is_neither_a_win_nor_a_loss(verify: Callable[[bytes], Verdict]) -> None:
    assert verify(order(SLOW + "# nothing\n")).class_ in ("no_change", "inconclusive")


def test_an_improvement_says_how_sure_it_is(verify: Callable[[bytes], Verdict]) -> None:
    verdict = verify(order(FAST))
    assert verdict.speedup is not None
    assert verdict.speedup.claim.low > 1.01
    assert verdict.speedup.interval.low <= verdict.speedup.speedup <= verdict.speedup.interval.high
    assert verdict.correctness.tests_passed is True
    assert verdict.correctness.outputs_compared >= 3
    assert verdict.cost.samples >= 10
    assert len(verdict.seed_secret) == 64


def test_swapping_the_arms_turns_the_verdict(bench: Bench, proved: Preflight) -> None:
    repo = bench.task.folder / "repo"
    from dataclasses import replace

    from omniperf.workspace.seal import seal

    swapped = replace(bench, seal=seal(replace(bench.source, base=str(bench.source.human)), (), bench.settings.cache))
    assert repo.is_dir()
    back = verify_patch(swapped, diff("toy/order.py", FAST, SLOW), proved, lambda line: None, ignore)
    assert back.class_ == "regressed"


def test_versus_human(bench: Bench, proved: Preflight) -> None:
    verdict = verify_patch(bench, order(FAST), proved, lambda line: None, ignore, versus_human=True)
    assert verdict.class_ == "improved"
    assert verdict.versus_human in ("matches_human", "inconclusive")


def test_protected_files_open_only_by_name(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    bench = open_bench(make_task('allow_protected: ["tests/test_order.py"]'), settings, ignore)  # type: ignore[arg-type]
    weakened = order(FAILS_TESTS) + diff(
        "tests/test_order.py",
        (bench.task.folder / "repo/tests/test_order.py").read_text(),
        (bench.task.folder / "repo/tests/test_order.py").read_text().replace("[3, 1, 2]", "[1, 2, 3]"),
    )
    verdict = verify_patch(bench, weakened, preflight(bench, ignore), lambda line: None, ignore)
    assert verdict.class_ == "incorrect", "the tests that judge are base's"


def test_work_moved_before_the_clock_is_no_speedup(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    base = (
        "import time\n"
        "\n"
        "\n"
        "class Table:\n"
        "    def __init__(self, n):\n"
        "        self.n = n\n"
        "\n"
        "    def total(self):\n"
        "        return sum(i * i for i in range(self.n))\n"
    )
    moved = base.replace(
        "        self.n = n\n", "        self.n = n\n        self.answer = sum(i * i for i in range(n))\n"
    )
    moved = moved.replace("return sum(i * i for i in range(self.n))", "return self.answer")
    workload = (
        "import random\nfrom toy.table import Table\n"
        "def setup(seed): return Table(400_000 + seed % 1000)\ndef run(state): return state.total()\n"
    )
    task = make_task(workload=workload, files={"toy/table.py": base})
    bench = open_bench(task, settings, ignore)  # type: ignore[arg-type]
    data = diff("toy/table.py", base, moved)
    verdict = verify_patch(bench, data, preflight(bench, ignore), lambda line: None, ignore)
    assert verdict.class_ == "rejected"
    assert verdict.findings[0].id == "moved-work"


def test_peak_memory_can_be_the_metric(make_task: Callable[..., object], settings: Settings, bubblewrap: None) -> None:
    base = "def total(n):\n    return sum([i * i for i in range(n)])\n"
    lean = "def total(n):\n    return sum(i * i for i in range(n))\n"
    workload = (
        "from toy.total import total\n"
        "def setup(seed): return 1_000_000 + seed % 100\n"
        "def run(state): return total(state)\n"
    )
    extra = "metrics: [{name: peak_memory, unit: MiB, primary: true}, {name: latency, guard: 3.0}]"
    bench = open_bench(make_task(extra, workload=workload, files={"toy/total.py": base}), settings, ignore)  # type: ignore[arg-type]
    data = diff("toy/total.py", base, lean)
    verdict = verify_patch(bench, data, preflight(bench, ignore), lambda line: None, ignore)
    assert verdict.class_ == "improved"
    assert [metric.name for metric in verdict.metrics if metric.primary] == ["peak_memory"]
    latency = next(metric for metric in verdict.metrics if metric.name == "latency")
    assert latency.guard_held is True


def test_a_guard_that_worsens_turns_the_verdict(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    base = "def total(n):\n    return sum(i * i % 7 for i in range(n))\n"
    greedy = (
        "_KEPT = {}\n"
        "\n"
        "\n"
        "def total(n):\n"
        "    _KEPT[n] = bytearray(200 * 2**20)\n"
        "    return sum([0, 1, 4, 2, 2, 4, 1][i % 7] for i in range(n % 7)) + n // 7 * 14\n"
    )
    workload = (
        "from toy.total import total\n"
        "def setup(seed): return 500_000 + seed % 100\n"
        "def run(state): return total(state)\n"
    )
    extra = "metrics: [{name: latency, primary: true}, {name: peak_memory, unit: MiB, guard: 1.1}]"
    bench = open_bench(make_task(extra, workload=workload, files={"toy/total.py": base}), settings, ignore)  # type: ignore[arg-type]
    data = diff("toy/total.py", base, greedy)
    verdict = verify_patch(bench, data, preflight(bench, ignore), lambda line: None, ignore)
    assert verdict.class_ == "regressed"
    assert "peak_memory" in verdict.reason


SCRIPT = (
    "from toy.order import distinct\n"
    "import os, random\n"
    "rng = random.Random(int(os.environ['OMNIPERF_SEED']))\n"
    "print(len(distinct([rng.randrange(10**9) for _ in range(5000)])))\n"
)


def test_a_script_is_measured_as_a_process(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    bench = open_bench(make_task(workload=SCRIPT), settings, ignore)  # type: ignore[arg-type]
    found = preflight(bench, ignore)
    assert bench.kind == "script"
    assert found.reached == ("toy/order.py:distinct",)
    assert verify_patch(bench, order(FAST), found, lambda line: None, ignore).class_ == "improved"
    wrong = order(SLOW.replace("return seen", "return seen if len(items) < 100 else seen[1:]"))
    assert verify_patch(bench, wrong, found, lambda line: None, ignore).class_ == "incorrect"


def test_every_worktree_is_gone_afterwards(verify: Callable[[bytes], Verdict], bench: Bench) -> None:
    others = set((bench.seal.git_dir / "worktrees").glob("*"))
    verify(order(FAST))
    assert not bench.settings.worktrees.exists()
    assert set((bench.seal.git_dir / "worktrees").glob("*")) == others


def test_time_that_runs_out_leaves_what_was_seen(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    bench = open_bench(make_task("measure: {max_minutes: 0.001}"), settings, ignore)  # type: ignore[arg-type]
    verdict = verify_patch(bench, order(SLOW + "# x\n"), preflight(bench, ignore), lambda line: None, ignore)
    assert (verdict.class_, "not enough" in verdict.reason) == ("inconclusive", True)
    assert verdict.speedup is None, "two pairs are no planned look"
