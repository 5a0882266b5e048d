"""Every view of what others wrote: no terminal obeys it, and no value of theirs stops it."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from rich.console import Console

from omniperf.report import diff
from omniperf.report.agreement_view import comparison_view
from omniperf.report.certificate_view import TasksTable, badge, calibrations_view, certificate_line, self_test_view
from omniperf.report.escape import safe_json
from omniperf.report.imported_view import imported_view
from omniperf.report.progress import progress
from omniperf.report.prompt_view import check_view, prompt_view
from omniperf.report.task_view import task_view
from omniperf.report.terminal import checks_view, results_table, summary, verdict_view, verifications_table
from omniperf.results.agreement import compare
from omniperf.results.certificate import Calibration, Certificate, Noise, Step
from omniperf.results.events import Event
from omniperf.results.schema import Imported, Interval, PromptCheck, PromptPart, Result, Verdict, Verification
from omniperf.tasks.schema import Task
from tests.example_result import PATCH, example_result

if TYPE_CHECKING:
    from collections.abc import Callable

EVIL = "\x1b[2J\x9b1A\x1b]0;t\x07\u202ereversed\u2066\u200bx\x00\U000e0041"
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
# What names a kind has a closed set of values, and a file with another one is not read at all.
CLOSED = {"class_", "severity", "kind", "infra_kind", "phase", "direction", "status", "source", "schema_", "before",
          "versus_human", "stated_kind", "says"}  # fmt: skip


def hostile(value: Any, number: float | None = None) -> Any:
    """A record with hostile text in every field that holds text, and `number` in those that hold numbers."""
    if isinstance(value, BaseModel):
        names = type(value).model_fields
        made = {name: getattr(value, name) for name in names}
        return value.model_copy(
            update={name: one if name in CLOSED else hostile(one, number) for name, one in made.items()}
            | ({"printed": {EVIL: number or 1.0}} if "printed" in names else {})
        )
    if isinstance(value, str):
        return f"{value}{EVIL}"
    if isinstance(value, tuple | list):
        return type(value)(hostile(one, number) for one in value)
    if isinstance(value, dict):
        return {f"{key}": hostile(one, number) for key, one in value.items()} | {EVIL: EVIL}
    if isinstance(value, float) and number is not None:
        return number
    if type(value) is int and number is not None:
        return -(10**30)
    return value


def result(number: float | None = None) -> Result:
    prompt = PromptCheck(status="leaks", parts=(PromptPart(name="diff", status="leaks", detail="x", evidence=("y",)),))
    return hostile(example_result(prompt_check=prompt, allow_leak=True), number)


def verification(number: float | None = None) -> Verification:
    made = result()
    return hostile(
        Verification(
            task_id="t", task_sha256="0", label="l", patch_sha256="1", before="improved", finished="",
            verdict=example_result().verdict, omniperf_version="1", environment=made.environment, sandbox="none",
        ), number,
    )  # fmt: skip


def certificate(number: float | None = None) -> Certificate:
    interval = Interval(low=1, high=1, confidence=0.9)
    noise = Noise(
        pairs=1, speedup=1, interval=interval, sigma=0, position_bias=0, autocorrelation=0, outlier_share=0, floor=0
    )
    calibration = Calibration(
        task_id="t", task_sha256="0", environment="e", base_tree="b", metric="latency", host="h", device=("d",),
        measured="now", omniperf_version="1", noise=noise, states=1, lane_seconds=1, wall_seconds=1,
    )  # fmt: skip
    return hostile(
        Certificate(
            task_id="t", task_sha256="0", kind="optimization", host="h", issued="now", omniperf_version="1",
            steps=(Step(name="s", ok=False, detail="d", remedy="r", lane_seconds=1.0),), calibration=calibration,
            null=Verdict(), human=example_result().verdict, fixed_pairs=None, environment={}, sandbox="none",
        ), number,
    )  # fmt: skip


def task() -> Task:
    made = Task.model_validate(
        {
            "schema": "omniperf/task/v1", "id": "toy", "title": "t", "description": "d", "tags": ["a"],
            "repo": {"url": "https://host/x", "base": "abc"}, "targets": ["a.py"], "workload": {"command": "x"},
            "tests": ["t"], "constraints": ["c"], "environment": {"setup": ["s"], "build": ["b"]},
        }
    )  # fmt: skip
    return hostile(made)


def imported(number: float | None = None) -> Imported:
    counts = dict.fromkeys(
        ("turns", "tool_calls", "failed_calls", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
         "total_tokens"), 1,
    )  # fmt: skip
    made = Imported(
        run_id="r", agent="a", n=1, client_version="v", session="s", models=("m",), says="failed", failure="f",
        final="g", denied=("Bash",), usd=1.0, omniperf_version="1", **counts,
    )  # fmt: skip
    return hostile(made, number)


VIEWS: dict[str, Callable[[float | None], Any]] = {
    "summary": lambda number: summary(result(number)),
    "results": lambda number: results_table([result(number), result(number)]),
    "verdict": lambda number: verdict_view(result(number).verdict),
    "verifications": lambda number: verifications_table([verification(number)]),
    "imported": lambda number: imported_view([(Path(EVIL), imported(number))]),
    "comparison": lambda number: comparison_view(compare([verification(number)], [verification(None)])),
    "calibrations": lambda number: calibrations_view([certificate(number).calibration], {EVIL: EVIL}),
    "self-test": lambda number: self_test_view(certificate(number).steps, EVIL),
    "tasks": lambda number: TasksTable([[EVIL, EVIL, badge([("here", certificate(number))]), EVIL, EVIL]]),
    "task": lambda number: task_view(task(), EVIL, EVIL, [certificate_line("here", certificate(number))]),
    "checks": lambda number: checks_view([("fail", EVIL, EVIL, EVIL)]),
    "prompt": lambda number: prompt_view(task(), EVIL, EVIL, f"# {EVIL}\n+{EVIL}\n{EVIL}"),
    "prompt check": lambda number: check_view(EVIL, EVIL, result(number).prompt_check),
    "diff": lambda number: diff.coloured(patch()),
    "stat": lambda number: diff.stat(patch(), result(number).patch),
    "side by side": lambda number: diff.side_by_side(patch(), PATCH),
}


def patch() -> bytes:
    evil = EVIL.encode()
    return PATCH.replace(b"words", evil).replace(b"lib/count.py", b"lib/" + evil).replace(b"logo", evil)


def shown(view: Any) -> str:
    out = Console(file=io.StringIO(), width=120, markup=False, emoji=False, highlight=False, force_terminal=False)
    out.print(view)
    return out.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("view", VIEWS)
def test_no_terminal_obeys_what_is_shown(view: str) -> None:
    text = shown(VIEWS[view](None))
    assert OBEYED.search(text.replace("\n", "")) is None, ascii(text)
    assert "reversed" in re.sub(r"\s", "", text)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0, 1e308, 5e-324])
@pytest.mark.parametrize("view", VIEWS)
def test_no_number_of_others_stops_a_view(view: str, number: float) -> None:
    assert shown(VIEWS[view](number))


@pytest.mark.parametrize(
    "facts", [{"cpu": 1, "gpus": 2, "packages": 3}, {"cpu": {"cores": "many"}, "gpus": [1, {}]}, {}]
)
def test_an_environment_may_be_anything(facts: dict[str, Any]) -> None:
    assert shown(summary(example_result(environment=facts)))
    odd = verification().model_copy(update={"environment": facts})
    assert shown(comparison_view(compare([odd], [verification()])))


def test_progress_is_safe_too() -> None:
    stream = io.StringIO()
    with progress(stream) as emit:
        emit(Event("agent", EVIL, {"attempt": EVIL}))
    assert OBEYED.search(stream.getvalue().replace("\n", "")) is None


def test_json_means_the_same_and_no_terminal_obeys_it() -> None:
    text = safe_json(json.dumps({EVIL: [EVIL]}, ensure_ascii=False))
    assert json.loads(text) == {EVIL: [EVIL]}
    assert OBEYED.search(text) is None
