"""Run every attack and every trick for real, and print a table of them.

    python -m tests.adversary [PYTEST'S OPTIONS, such as -k git]

Ends with status 1 if one of them wins, hurts the host or another attempt, or is not named by its finding.
"""

import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

WORDS = {"passed": "held", "failed": "NOT HELD", "skipped": "skipped"}


class Rows:
    """A plugin that takes down one row a case."""

    def __init__(self) -> None:
        self.table = Table("trick", "catalogue", "outcome", "verdict", "findings", "so it was", box=None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = dict(report.user_properties).get("row")
        if report.passed and (report.when != "call" or row is None):
            return
        numbers, outcome, verdict, found = row or ((), "", "", ())
        known = "wins, as is known" if hasattr(report, "wasxfail") and report.skipped else WORDS[report.outcome]
        shown = (", ".join(map(str, numbers)), outcome, verdict, ", ".join(sorted(set(found))), known)
        self.table.add_row(report.nodeid.rpartition("[")[2].rstrip("]"), *shown)


def main(options: list[str]) -> int:
    rows = Rows()
    status = pytest.main(["-q", "--no-header", "--tb=short", str(Path(__file__).parent), *options], plugins=[rows])
    Console(width=None if sys.stdout.isatty() else 160).print(rows.table)
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
