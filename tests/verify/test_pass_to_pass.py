"""The tests that judge a patch are those that pass on base every time, and each of them must pass with it."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from omniperf.errors import OmniPerfError, UsageError
from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.settings import Settings
from omniperf.tasks.schema import Task
from omniperf.verify import pass_to_pass
from omniperf.verify.pass_to_pass import judge, prove_tests
from omniperf.verify.preflight import preflight
from omniperf.verify.task_tests import TestRun, run_tests
from omniperf.verify.verdict import verify_patch
from tests.conftest import FAST, SLOW, TEST
from tests.verify.test_verdicts import order

UNITTEST = "python -m unittest -q tests.test_order"
KEEPS = "tests.test_order.Order.test_keeps_the_first"
SORTS = SLOW.replace("return seen", "return sorted(seen)")


def method(name: str, *body: str) -> str:
    """One more test of the toy's test class."""
    return f"\n    def test_{name}(self):\n" + "".join(f"        {line}\n" for line in body)


@pytest.fixture
def bench_of(make_task: Callable[..., Task], settings: Settings, bubblewrap: None) -> Callable[..., Bench]:
    """Make a bench of the toy with that test file and those commands."""

    def make(tests: str, *commands: str, files: dict[str, str] | None = None) -> Bench:
        task = make_task(files={"tests/test_order.py": tests, **(files or {})})
        return open_bench(task.model_copy(update={"tests": commands or (UNITTEST,)}), settings, ignore)

    return make


PYTEST = f"{sys.executable} -m pytest -p no:cacheprovider"


@pytest.fixture
def with_pytest(make_task: Callable[..., Task], settings: Settings) -> Callable[..., Bench]:
    """Make a bench of the toy whose tests run under our own pytest, on the host: no sandbox shows it."""

    def make(tests: str, *commands: str, files: dict[str, str] | None = None) -> Bench:
        task = make_task(files={"tests/test_order.py": tests, **(files or {})})
        task = task.model_copy(update={"tests": commands or (f"{PYTEST} -q tests",)})
        return open_bench(task, replace(settings, sandbox="none"), ignore)

    return make


def outcomes(bench: Bench, patch: bytes = b"") -> TestRun:
    with bench.tree("tests", patch) as tree:
        return run_tests(bench, tree)


ODD = TEST + (
    method("wrong", "self.assertEqual(distinct([1]), [2])")
    + method("skipped", "self.skipTest('not here')")
    + method("parts", "for n in (1, 2):", "    with self.subTest(n=n):", "        self.assertEqual(n, 1)")
)


def test_unittest_is_asked_for_every_test(bench_of: Callable[..., Bench]) -> None:
    run = outcomes(bench_of(ODD))
    name = "tests.test_order.Order.test_"
    wanted = {"keeps_the_first": "passed", "wrong": "failed", "skipped": "skipped", "parts": "failed"}
    assert run.outcomes == {name + test: outcome for test, outcome in wanted.items()}
    assert run.failed(()) is not None
    assert run.failed({name + "wrong", name + "parts"}) is None
    assert run.commands[0].done.exit_code == 1, "the canary is not counted"
    assert "Ran 4 tests" in run.commands[0].done.output


def test_tests_that_fail_on_base_are_set_aside(bench_of: Callable[..., Bench]) -> None:
    proved = prove_tests(bench_of(ODD))
    assert proved.listed == (KEEPS,)
    assert set(proved.aside.values()) == {"fails on base"}


def test_tests_that_differ_from_run_to_run_are_set_aside(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(TEST + method("flaky", "import os", "self.assertLess(os.urandom(1)[0], 128)"))
    for _ in range(9):  # three runs are alike one time in four
        proved = prove_tests(bench)
        if "differs from run to run on base" in proved.aside.values():
            break
    else:
        pytest.fail("a test that is a coin was never seen to differ")
    assert KEEPS in proved.listed


@pytest.mark.parametrize(
    ("tests", "command"),
    [
        (TEST.replace("[3, 1, 2])", "[])"), UNITTEST),  # all fail
        (TEST, "python -m unittest -q tests.nothing"),
        (TEST.replace("        self", "        self.skipTest('no')\n        self"), UNITTEST),
        (TEST, "python -c 'raise SystemExit(4)'"),
    ],
)
def test_a_command_with_no_passing_test_cannot_judge(bench_of: Callable[..., Bench], tests: str, command: str) -> None:
    with pytest.raises(UsageError, match=r"its tests fail on base|no test of a command passes"):
        prove_tests(bench_of(tests, command))


def test_a_failing_test_does_not_hide_the_next_command(bench_of: Callable[..., Bench]) -> None:
    other = {"tests/test_other.py": TEST.replace("class Order", "class Other")}
    bench = bench_of(ODD, UNITTEST, f"{UNITTEST}.Order.test_keeps_the_first && {UNITTEST[:-10]}test_other", files=other)
    assert prove_tests(bench).listed == (KEEPS, "tests.test_other.Other.test_keeps_the_first")


PLAIN = """\
import os, pytest
from toy.order import distinct

@pytest.mark.parametrize("items", [[1], [2, 1, 2]])
def test_keeps(items): assert distinct(items) == items[:2]

@pytest.fixture
def broken(): raise OSError

def test_errs(broken): pass
def test_wrong(): assert distinct([1]) == [2]
def test_skipped(): pytest.skip("not here")

@pytest.mark.xfail
def test_expected(): assert False

def test_fakes_open(monkeypatch): monkeypatch.setattr("builtins.open", None)
"""


def test_pytest_is_asked_for_every_test(with_pytest: Callable[..., Bench]) -> None:
    broken = {"tests/test_broken.py": "import nothing_like_it\n"}
    bench = with_pytest(PLAIN, f"{PYTEST} -q --continue-on-collection-errors tests", files=broken)
    run = outcomes(bench)
    name = "tests/test_order.py::test_"
    wanted = {
        "keeps[items0]": "passed", "keeps[items1]": "passed", "errs": "failed", "wrong": "failed",
        "skipped": "skipped", "expected": "skipped", "fakes_open": "passed",
    }  # fmt: skip
    assert run.outcomes == {"tests/test_broken.py": "failed"} | {name + test: how for test, how in wanted.items()}
    assert "1 failed, 3 passed, 1 skipped, 1 xfailed, 2 errors" in run.commands[0].done.output, "no canary"
    assert len(prove_tests(bench).listed) == 3


def test_a_command_with_a_python_path_of_its_own_is_one_test(with_pytest: Callable[..., Bench]) -> None:
    command = f"PYTHONPATH=. {PYTEST} -q tests -k keeps"
    proved = prove_tests(with_pytest(PLAIN, command))
    assert (proved.listed, proved.counted) == ((command,), {command: 2})


def test_the_first_failure_ends_the_tests_and_not_the_report(with_pytest: Callable[..., Bench]) -> None:
    run = outcomes(with_pytest(PLAIN, f"{PYTEST} -x tests"))
    assert list(run.outcomes.values()) == ["passed", "passed", "failed"]


def verdict(bench: Bench, patched: str, base: str = SLOW) -> tuple[str, str, tuple[str, ...]]:
    """The judgement by the tests alone: nothing is timed."""
    proved = prove_tests(bench)
    said = judge(bench, proved, order(patched))
    return {True: "passed", False: "failed", None: "not asked"}[said.passed], said.detail, said.aside


def test_a_patch_is_not_judged_by_what_fails_on_base(bench_of: Callable[..., Bench]) -> None:
    passed, detail, aside = verdict(bench_of(ODD), FAST)
    assert (passed, detail) == ("passed", "")
    assert aside == tuple(f"tests.test_order.Order.test_{name} (fails on base)" for name in ("parts", "wrong"))


def test_a_listed_test_that_fails_is_named(bench_of: Callable[..., Bench]) -> None:
    passed, detail, _ = verdict(bench_of(ODD), SORTS)
    assert passed == "failed"
    assert detail.startswith(f"{KEEPS}: failed\n")
    assert "AssertionError: Lists differ: [1, 2, 3] != [3, 1, 2]" in detail


def test_a_test_that_the_patch_makes_skip_has_not_passed(bench_of: Callable[..., Bench]) -> None:
    skips = "import unittest\n" + SLOW.replace(
        "    seen = []", "    if items[0] == 3: raise unittest.SkipTest('x')\n    seen = []"
    )
    passed, detail, _ = verdict(bench_of(TEST + method("other", "self.assertEqual(distinct([1]), [1])")), skips)
    assert (passed, detail) == ("failed", f"{KEEPS}: skipped")


def test_what_fails_once_is_run_again_before_the_patch_is_blamed(
    bench_of: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(TEST + method("other", "self.assertEqual(distinct([1]), [1])"))
    proved = prove_tests(bench)
    patches = iter([order(SORTS), order(FAST)])  # stands for a test that fails now and then
    real = pass_to_pass._run
    monkeypatch.setattr(pass_to_pass, "_run", lambda bench, patch: real(bench, patch and next(patches)))
    said = judge(bench, proved, order(FAST))
    assert (said.passed, said.aside) == (True, (f"{KEEPS} (failed once with the patch and passed once)",))


def test_where_every_test_of_a_command_comes_and_goes_nothing_is_called_clean(
    bench_of: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(TEST)
    proved = prove_tests(bench)
    patches = iter([order(SORTS), order(FAST)])
    real = pass_to_pass._run
    monkeypatch.setattr(pass_to_pass, "_run", lambda bench, patch: real(bench, patch and next(patches)))
    assert judge(bench, proved, order(FAST)).passed is False


def test_base_that_no_longer_passes_is_not_the_patchs_fault(bench_of: Callable[..., Bench]) -> None:
    two = TEST + method("other", "self.assertEqual(distinct([1]), [1])")
    bench = bench_of(two.replace("[3, 1, 2]", "[]"))
    other = KEEPS.replace("keeps_the_first", "other")
    proved = prove_tests(bench).model_copy(update={"listed": (KEEPS, other), "aside": {}})  # as kept from better days
    said = judge(bench, proved, order(FAST))
    assert (said.passed, said.aside) == (True, (f"{KEEPS} (no longer passes on base)",))
    with pytest.raises(OmniPerfError, match="fail on base too"):
        judge(bench, proved.model_copy(update={"listed": (KEEPS,)}), order(FAST))


def test_a_command_that_fails_by_more_than_its_tests_is_blamed(bench_of: Callable[..., Bench]) -> None:
    crashes = FAST + "\n\nimport atexit, os, sys\n\nif 'unittest' in sys.modules:\n    atexit.register(os._exit, 3)\n"
    passed, detail, _ = verdict(bench_of(TEST), crashes)
    assert (passed, detail.splitlines()[0]) == ("failed", "A command ended with exit code 3.")


LIES = {
    "unittest": ("import unittest\nunittest.TestCase.fail = unittest.TestCase.assertEqual = lambda *_: None\n"),
    "pytest": (
        "import sys\n"
        "if '_pytest.reports' in sys.modules:\n"
        "    from _pytest.reports import TestReport as T\n"
        "    real = T.from_item_and_call.__func__\n"
        "    def lie(cls, item, call):\n"
        "        report = real(cls, item, call)\n"
        "        report.outcome, report.longrepr = 'passed', None\n"
        "        return report\n"
        "    T.from_item_and_call = classmethod(lie)\n"
    ),
}


@pytest.mark.usefixtures("unread")
def test_a_patch_that_makes_failing_tests_pass_is_rejected(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(TEST)
    proved = preflight(bench, ignore)
    verdict = verify_patch(bench, order(LIES["unittest"] + SORTS), proved, lambda line: None, ignore)
    assert (verdict.class_, [finding.id for finding in verdict.findings]) == ("rejected", ["tests-tampered"])
    assert verdict.correctness.tests_passed is False


def test_the_same_under_pytest(with_pytest: Callable[..., Bench]) -> None:
    bench = with_pytest(TEST)
    said = judge(bench, prove_tests(bench), order(LIES["pytest"] + SORTS))
    assert said.finding is not None
    assert said.finding.severity == "reject"


def test_a_report_that_the_patch_writes_itself_is_none(bench_of: Callable[..., Bench]) -> None:
    forged = (
        "import json, os, sys\n"
        "if 'unittest' in sys.modules:\n"
        "    environ = open('/proc/self/environ').read().split(chr(0))\n"
        "    name, = (line[21:] for line in environ if line.startswith('OMNIPERF_TEST_REPORT='))\n"
        f"    tests = [['{KEEPS}', 'passed']]\n"
        "    open(name, 'w').write(json.dumps({'tests': tests, 'canary': CANARY}))\n"
        "    print('Ran 1 test in 0.1s')\n"
        "    os._exit(0)\n"
    )
    bench = bench_of(TEST)
    for canary in ("[]", "['skipped', 1]", "None"):
        passed, _, _ = verdict(bench, forged.replace("CANARY", canary) + SORTS)
        assert passed == "failed"
