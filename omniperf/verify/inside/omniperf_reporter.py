"""Inside the sandbox: what became of every test, as a plugin of pytest and in place of `python -m unittest`.

It runs on the task's Python, where OmniPerf is not installed: standard library only. At the end of a session it appends
one JSON line to the file that OMNIPERF_TEST_REPORT names: {"tests": [[id, outcome], ..], "canary": [outcome, ..]}, an
outcome being "passed", "failed" or "skipped". The canary is a test that can only fail, run as the others were.
"""

import json
import os
import sys
import unittest

REPORT = os.environ.pop("OMNIPERF_TEST_REPORT", "")  # tests that start pytest themselves must not report
SAID = "the harness's own test, which has to fail"
found = []


def write(canary):
    """Append what was found."""
    # In one go at the very end: while tests run, `open` and `os` may be somebody's fakes.
    with open(REPORT, "a", encoding="utf-8", errors="backslashreplace") as report:
        report.write(json.dumps({"tests": found, "canary": canary}) + "\n")


if __name__ != "__main__":
    import pytest
    from _pytest.runner import runtestprotocol

    class CanaryItem(pytest.Item):
        """The test that can only fail."""

        def runtest(self):
            raise AssertionError(SAID)

    def pytest_collectreport(report):
        """Keep a file that could not be collected as a test that failed."""
        if report.failed:
            found.append((report.nodeid, "failed"))

    def pytest_runtest_logreport(report):
        """Keep the outcome of a test's call, and of set-up and tear-down where they decide."""
        if report.when == "call" or report.outcome != "passed":
            expected = hasattr(report, "wasxfail")  # where such a test passes, that says nothing of the code
            found.append((report.nodeid, "skipped" if expected else report.outcome))

    @pytest.hookimpl(trylast=True)  # everything else is torn down by then
    def pytest_sessionfinish(session):
        """Run the canary and write the report; neither the summary nor the exit status knows of it."""
        if REPORT:
            reports = runtestprotocol(CanaryItem.from_parent(session, name="canary"), log=False)
            write([report.outcome for report in reports if report.when == "call"])


class Result(unittest.TextTestResult):
    """The usual result, which keeps the outcome of every test too."""

    def addSuccess(self, test):
        super().addSuccess(test)
        found.append((test.id(), "passed"))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        found.append((test.id(), "failed"))

    def addError(self, test, err):
        super().addError(test, err)
        found.append((test.id(), "failed"))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            found.append((test.id(), "failed"))

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        found.append((test.id(), "failed"))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        found.append((test.id(), "skipped"))


class Canary(unittest.TestCase):
    """The test that can only fail."""

    def runTest(self):
        self.fail(SAID)


class Runner(unittest.TextTestRunner):
    """The usual runner, which runs the canary after the tests and writes the report."""

    resultclass = Result

    def run(self, test):
        result = super().run(test)
        if REPORT:
            tests, canary = len(found), Canary()
            canary.run(Result(self.stream, self.descriptions, 0))
            outcomes = [outcome for _, outcome in found[tests:]]
            del found[tests:]
            write(outcomes)
        return result


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as `-m unittest` has it
    unittest.main(module=None, argv=["python -m unittest", *sys.argv[1:]], testRunner=Runner)
