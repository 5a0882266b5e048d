"""What patches of a command or a service are worth, and which workloads preflight refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from omniperf.agents.tools import SessionTools
from omniperf.errors import UsageError
from omniperf.gateway.budget import Budget
from omniperf.results.events import ignore
from omniperf.results.journal import Journal
from omniperf.sandbox.bubblewrap import why_not
from omniperf.settings import load_settings
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import FAST, MEASURED, SLOW
from tests.toy_processes import CLI, COMMAND, LOAD, MEASURE, SERVER, SERVICE, toy
from tests.verify.test_verdicts import diff, order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omniperf.measure.bench import Bench
    from omniperf.results.schema import Verdict
    from omniperf.settings import Settings

pytestmark = MEASURED

NULL = order(SLOW + "# nothing\n")


def proved(folder: Path, cache: Path, rest: str, **toys: object) -> tuple[Bench, Callable[[bytes], Verdict]]:
    if reason := why_not():
        pytest.skip(f"bubblewrap cannot run here: {reason}")
    folders = {"results": folder / "results", "worktrees": folder / "worktrees", "tasks": folder / "tasks"}
    bench = toy(folder, load_settings({**folders, "cache": cache}), rest + MEASURE, **toys)  # type: ignore[arg-type]
    found = preflight(bench, ignore)
    return bench, lambda data: verify_patch(bench, data, found, lambda line: None, ignore)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> tuple[Bench, Callable[[bytes], Verdict]]:
    return proved(tmp_path_factory.mktemp("command"), shared_cache, COMMAND)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> tuple[Bench, Callable[[bytes], Verdict]]:
    return proved(tmp_path_factory.mktemp("service"), shared_cache, SERVICE)


Proved = "tuple[Bench, Callable[[bytes], Verdict]]"


def test_a_faster_command_is_improved_and_its_own_figure_is_shown(command: Proved) -> None:
    verdict = command[1](order(FAST))
    assert verdict.class_ == "improved", verdict
    assert [metric.name for metric in verdict.metrics] == ["latency"]
    assert verdict.printed["candidate throughput"] > verdict.printed["base throughput"]


def test_a_command_that_prints_a_faster_figure_gains_nothing(command: Proved) -> None:
    verdict = command[1](diff("toy/cli.py", CLI, CLI.replace("len(found) / (", "9e9 * len(found) / (")))
    assert verdict.class_ in ("no_change", "inconclusive"), verdict
    assert verdict.printed["candidate throughput"] > 1e6 * verdict.printed["base throughput"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('print("Throughput:", ', 'print("Quickly:", '), "metric throughput: regex .* matches 0 times"),
        (("print(len(found), sum(found))", "print(len(found))"), "line 2 of its output is"),
    ],
)
def test_a_command_that_prints_something_else_is_incorrect(command: Proved, change: tuple[str, str], said: str) -> None:
    verdict = command[1](diff("toy/cli.py", CLI, CLI.replace(*change)))
    assert verdict.class_ == "incorrect"
    assert re.search(said, verdict.reason), verdict.reason


def test_an_agent_benchmarks_and_profiles_a_command(command: Proved, tmp_path: Path) -> None:
    bench = command[0]
    workspace = bench.workspace("agent")
    try:
        budget = Budget(bench.task.limits)
        with (
            Journal(tmp_path / "journal.jsonl") as journal,
            SessionTools(bench, workspace, preflight(bench, ignore), budget, journal, ignore) as tools,
        ):
            hottest = tools.profile().functions[0]
            assert (hottest.file, hottest.function, hottest.calls) == ("toy/order.py", "distinct", 1)
            tools.create("toy/order.py", FAST)
            assert tools.benchmark().decision == "faster"
    finally:
        workspace.remove()


def test_a_faster_service_is_improved(service: Proved) -> None:
    verdict = service[1](order(FAST))
    assert verdict.class_ == "improved", verdict
    throughput, p50, startup = verdict.metrics
    assert (throughput.name, throughput.direction, throughput.primary) == ("throughput", "higher", True)
    assert throughput.candidate_median > throughput.base_median
    assert throughput.estimate.speedup > 1 and p50.estimate.speedup > 1
    assert (p50.guard_held, startup.guard_held) == (True, True)
    assert verdict.printed == {}


def test_a_service_with_a_comment_is_neither_improved_nor_regressed(service: Proved) -> None:
    assert service[1](NULL).class_ in ("no_change", "inconclusive")


DROPS = SERVER.replace(
    "        body = ", "        if int(items[0]) % 2:\n"
    "            self.send_error(503)\n            return\n        body = "
)  # fmt: skip


def test_a_service_that_drops_requests_is_incorrect(service: Proved) -> None:
    verdict = service[1](diff("toy/server.py", SERVER, DROPS))
    assert verdict.class_ == "incorrect"
    assert "requests completed, base's were 8, with the same seed" in verdict.reason


def test_a_service_that_answers_something_else_is_incorrect(service: Proved) -> None:
    verdict = service[1](diff("toy/server.py", SERVER, SERVER.replace("distinct(items)", "items[:1]")))
    assert verdict.class_ == "incorrect"
    assert verdict.correctness.outputs_equal is False


def test_start_up_that_comes_back_in_the_first_request_is_no_speedup(tmp_path: Path, shared_cache: Path) -> None:
    eager = SERVER.replace("class Handler", "import time; time.sleep(0.2)\n\n\nclass Handler")
    lazy = SERVER.replace(
        "    def do_POST(self):\n",
        "    loaded = False\n\n    def do_POST(self):\n        import time\n"
        "        if not Handler.loaded: time.sleep(0.2)\n        Handler.loaded = True\n",
    )
    rest = SERVICE[: SERVICE.index("metrics:")] + "metrics: [{name: startup, primary: true}]\n"
    _, verify = proved(tmp_path, shared_cache, rest, files={"toy/server.py": eager})
    verdict = verify(diff("toy/server.py", eager, lazy))
    assert (verdict.class_, [finding.id for finding in verdict.findings]) == ("rejected", ["moved-work"])
    none = verify(diff("toy/server.py", eager, SERVER))
    assert none.class_ == "improved", none


REFUSED = {
    "an expression that matches nothing": (
        COMMAND.replace("Throughput: (", "Speed: ("), {}, "metric throughput: regex 'Speed: .*' matches 0 times"
    ),
    "a command that does not reach the targets": (
        "workload: {command: 'python -c 1'}\n", {}, "executes no function of its targets"
    ),
    "a command that is the same for every seed": (
        "workload: {command: \"python -c 'from toy.order import distinct; print(distinct([1]))'\"}\ntests: []\n", {},
        "what the command prints is the same for every seed",
    ),
    "outputs that differ from run to run": (
        SERVICE, {"load": LOAD.replace('digest.hexdigest()', 'str(time.time())')}, "two `outputs` for one seed"
    ),
    "counts that differ from run to run": (
        SERVICE, {"load": LOAD.replace('"completed": completed', '"completed": time.time_ns()')}, "requests completed"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rest", "toys", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_preflight_refuses(
    tmp_path: Path, settings: Settings, bubblewrap: None, rest: str, toys: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        preflight(toy(tmp_path, settings, rest, **toys), ignore)  # type: ignore[arg-type]


def test_what_is_not_python_is_not_checked_and_the_verdict_says_so(tmp_path: Path, shared_cache: Path) -> None:
    rest = 'workload: {command: "sha256sum toy/order.py", reach: none}\n'
    _, verify = proved(tmp_path, shared_cache, rest)
    verdict = verify(NULL)
    assert verdict.class_ == "incorrect", "it prints the hash of what the patch changed"
    assert [finding.id for finding in verdict.findings] == ["reach-not-checked"]


def test_a_service_without_walls_is_refused(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(UsageError, match="only in bubblewrap is a load generator kept from the server"):
        toy(tmp_path, replace(settings, sandbox="none"), SERVICE)


def test_a_command_without_walls_is_measured_and_observed(tmp_path: Path, settings: Settings) -> None:
    found = preflight(toy(tmp_path, replace(settings, sandbox="none"), COMMAND), ignore)
    assert "toy/order.py:distinct" in found.reached
