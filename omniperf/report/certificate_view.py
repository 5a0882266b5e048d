"""Calibrations and certificates on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from omniperf.report.escape import one_line, plain
from omniperf.report.numbers import duration, percent, plus_minus
from omniperf.report.terminal import WIDE, Rows, checks_view, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from omniperf.results.certificate import Calibration, Certificate, Standing, Step

_ORDER: tuple[Standing, ...] = ("here", "elsewhere", "stale")


def calibrations_view(found: Sequence[Calibration], skipped: Mapping[str, str]) -> RenderableType:
    """Return a line for each calibrated task, and why others could not be."""
    rows = []
    for one in found:
        noise = one.noise
        rows.append(
            [
                one.task_id,
                percent(noise.floor),
                percent(noise.sigma),
                percent(noise.position_bias),
                "" if noise.autocorrelation is None else f"{noise.autocorrelation:.2f}",
                f"{noise.outlier_share:.0%}",
                str(noise.pairs),
                duration(one.wall_seconds),
            ]
        )
    headers = ["task", "noise floor", "SD", "position", "lag 1", "outliers", "pairs", "time"]
    why = [Text(f"skipped {plain(name)}: {one_line(reason)}", "dim") for name, reason in skipped.items()]
    shown = [table(headers, rows, right=headers[1:])] if rows else []
    return Group(*shown, *([Text()] if shown and why else []), *why)


@dataclass(frozen=True)
class TasksTable:
    """Tasks with the columns that there is room for; each row is name, title, certificate, tags, origin."""

    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        headers = ["task", "title", "certificate", "tags", "from"]
        shown = list(range(len(headers)))
        if not any(row[2] for row in self.rows):
            shown.remove(2)
        elif options.max_width < WIDE:
            shown.remove(3)
        cells = [[row[column] for column in shown] for row in self.rows]
        yield Rows([headers[column] for column in shown], cells, whole=("task", "certificate", "from"))


def self_test_view(steps: Iterable[Step], said: str) -> RenderableType:
    """Return a line for each step of a self-test with its figure and cost, and what it comes to."""
    lines = (("ok" if step.ok else "fail", step.name, step.detail + _cost(step), step.remedy) for step in steps)
    return Group(checks_view(lines), Text(), Text(plain(said)))


def badge(certificates: Iterable[tuple[Standing, Certificate]]) -> str:
    """Return the shortest word on a task's certificates, such as `1.74x ±0.02 here`: of the one that says most.

    One of this host comes before one of another, the newest first; `stale` where the task has changed since.
    """
    best = min(certificates, key=lambda entry: _ORDER.index(entry[0]), default=None)
    if best is None or best[0] == "stale":
        return best[0] if best else ""
    standing, certificate = best
    return f"{_worth(certificate, interval=standing == 'here')} {standing}"


def certificate_line(standing: Standing, certificate: Certificate) -> str:
    """Return one certificate in one line: what it says, when and on what it was earned."""
    device = ", ".join(dict.fromkeys(certificate.calibration.device))
    parts = [
        f"{_worth(certificate, interval=True)} {standing}" + (": the task has changed" if standing == "stale" else ""),
        f"noise floor {percent(certificate.calibration.noise.floor)}",
        certificate.issued[:10],
        device,
    ]
    return one_line(" · ".join(parts))


def _worth(certificate: Certificate, *, interval: bool) -> str:
    """The human patch's speedup where the task is known for one, else what kind of task it is."""
    estimate = certificate.human.speedup if certificate.human else None
    if certificate.kind != "optimization" or estimate is None:
        return certificate.kind
    return plus_minus(estimate) if interval else plus_minus(estimate).partition(" ")[0]


def _cost(step: Step) -> str:
    if step.lane_seconds is None:
        return f" [{duration(step.wall_seconds)}]" if step.wall_seconds >= 0.1 else ""
    return f" [{duration(step.wall_seconds)}, {duration(step.lane_seconds)} of them on the lane]"
