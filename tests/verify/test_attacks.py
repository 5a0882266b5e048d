"""Patches that try to break the one who measures them. Those that try to look faster are under tests/cheats."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.errors import InfraError, OmniPerfError
from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.results.schema import Verdict
from omniperf.settings import Settings
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch
from tests.conftest import FAST, SLOW
from tests.verify.test_verdicts import diff, order

pytestmark = pytest.mark.usefixtures("unread")
Judge = Callable[..., Verdict]

QUICK = "measure: {max_minutes: 0.2}"


@pytest.fixture
def judge(make_task: Callable[..., object], settings: Settings, bubblewrap: None) -> Judge:
    """Verify a change of toy/order.py on a task of that workload and base."""

    def run(patched: str, base: str = SLOW, **task: object) -> Verdict:
        files = {"toy/order.py": base, **task.pop("files", {})}  # type: ignore[dict-item]
        bench: Bench = open_bench(make_task(files=files, **task), settings, ignore)  # type: ignore[arg-type]
        data = diff("toy/order.py", base, patched)
        return verify_patch(bench, data, preflight(bench, ignore), lambda line: None, ignore)

    return run


def in_worker(body: str) -> str:
    """The slow module, whose function also does that where it is measured, and passes the tests."""
    return SLOW + (
        "\n\n_plain = distinct\n\n\n"
        "def distinct(items):\n"
        "    found = _plain(items)\n"
        f"    if len(items) > 100:\n        {body}\n"
        "    return found\n"
    )


def test_garbage_is_collected_whatever_the_patch_says(judge: Judge) -> None:
    as_ever = "len(items) < 100 or gc.isenabled() and gc.get_threshold()[0] and not gc.get_freeze_count()"
    checks = FAST.replace("    return list", f"    assert {as_ever}\n    return list")
    verdict = judge("import gc\n\ngc.disable()\ngc.freeze()\ngc.set_threshold(0)\n" + checks)
    assert verdict.class_ == "improved", verdict


def test_tests_that_end_early_with_status_0_have_not_passed(judge: Judge) -> None:
    verdict = judge("import os, sys\n\nif 'unittest' in sys.modules:\n    os._exit(0)\n\n\n" + FAST)
    assert verdict.class_ == "incorrect", verdict
    assert verdict.correctness.detail == "tests.test_order.Order.test_keeps_the_first: not reported"


def test_a_slow_import_is_said_and_does_not_undo_a_gain(judge: Judge) -> None:
    verdict = judge("import time\n\ntime.sleep(0.2)\n" + FAST)
    assert verdict.class_ == "improved"
    assert [finding.id for finding in verdict.findings] == ["slower-import"], verdict


@pytest.mark.parametrize("prints", ["'Duration: 0.1'", "sum(range(9))"])
def test_a_script_whose_output_says_nothing_needs_tests(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None, prints: str
) -> None:
    script = f"from toy.order import distinct\ndistinct(range(2000))\nprint({prints})\n"
    bench: Bench = open_bench(make_task(workload=script), settings, ignore)  # type: ignore[arg-type]
    assert preflight(bench, ignore).reached
    task = bench.task.model_copy(update={"tests": ()})
    with pytest.raises(OmniPerfError, match="is the same for every seed"):
        preflight(replace(bench, task=task), ignore)


OUTPUTS = {
    "a number of many digits": "return [1 << 60_000_000]",
    "a number that Python does not print": "return [10**5000] * len(found)",
    "an error that is no Unicode": "raise ValueError('x\\udcff [/bold] \\x1b[2J')",
    "the end of the process": "__import__('os')._exit(0)",
}


@pytest.mark.parametrize("body", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_an_output_made_to_break_the_comparison(judge: Judge, body: str) -> None:
    started = time.monotonic()
    verdict = judge(in_worker(body), extra=QUICK)
    assert verdict.class_ == "incorrect"
    assert time.monotonic() - started < 60
    assert verdict.model_dump_json()


def test_a_seed_that_is_ignored_is_refused(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    workload = (
        "from toy.order import distinct\ndef setup(seed): return [1, 2]\ndef run(state): return distinct(state)\n"
    )
    bench = open_bench(make_task(workload=workload), settings, ignore)  # type: ignore[arg-type]
    with pytest.raises(OmniPerfError, match="one output for every seed"):
        preflight(bench, ignore)


def test_a_damaged_proof_is_made_again(bench: Bench) -> None:
    first = preflight(bench, ignore)
    kept = max((bench.settings.cache / "preflight").iterdir(), key=lambda file: file.stat().st_mtime)
    kept.write_text("{")
    assert preflight(bench, ignore).reached == first.reached


def test_tests_that_meanwhile_fail_on_base_are_no_fault_of_the_patch(bench: Bench) -> None:
    proved = preflight(bench, ignore)
    changed = bench.task.model_copy(update={"tests": ("python -c 'raise SystemExit(5)'",)})
    with pytest.raises(OmniPerfError, match="fail on base too"):
        verify_patch(replace(bench, task=changed), order(FAST), proved, lambda line: None, ignore)


def test_a_sandbox_that_does_not_start_is_no_fault_of_the_patch(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omniperf.sandbox import bubblewrap as module

    proved, real = preflight(bench, ignore), module.find_bwrap()
    broken = tmp_path / "bwrap"
    broken.write_text(
        "#!/bin/sh\n"
        'case "$*" in *worker.py*) echo "bwrap: Creating new namespace failed" >&2; exit 1;; esac\n'
        f'exec {real} "$@"\n'
    )
    broken.chmod(0o755)
    monkeypatch.setattr(module, "find_bwrap", lambda: str(broken))
    with pytest.raises(InfraError, match="Creating new namespace failed"):
        verify_patch(bench, order(FAST), proved, lambda line: None, ignore)


def test_a_human_patch_that_cannot_be_measured_costs_no_verdict(
    make_task: Callable[..., object], settings: Settings, bubblewrap: None
) -> None:
    task = make_task(QUICK)
    repo = task.folder / "repo"  # type: ignore[attr-defined]
    (repo / "toy/order.py").write_text(FAST.replace("list(", "tuple("))
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(repo))
    subprocess.run((*git, "commit", "-qam", "returns a tuple"), check=True)
    human = subprocess.run((*git, "rev-parse", "HEAD"), capture_output=True, text=True, check=True).stdout.strip()
    changed = task.model_copy(update={"repo": task.repo.model_copy(update={"human": human})})  # type: ignore[attr-defined]
    bench = open_bench(changed, settings, ignore)
    proved = preflight(bench, ignore)
    verdict = verify_patch(bench, order(FAST), proved, lambda line: None, ignore, versus_human=True)
    assert verdict.class_ == "improved"
    assert verdict.versus_human is None
    assert [finding.id for finding in verdict.findings] == ["no-human-comparison"]
