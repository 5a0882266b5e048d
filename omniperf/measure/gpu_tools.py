"""What NVIDIA's tools say of one run of a workload, where they are installed: ncu's counters, the sanitizer's memcheck.

Neither is needed for anything: a tool that is absent is not mentioned, and one that fails is a reason of one line.
Options and formats are those of the manuals of Nsight Compute's command line and of Compute Sanitizer.
"""

from __future__ import annotations

import csv
import json
import re
import secrets
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.sandbox.spec import Mount
from omniperf.sandbox.standing import StandingSandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omniperf.measure.clock import Arm
    from omniperf.sandbox.spec import Backend
    from omniperf.sandbox.standing import Completed
    from omniperf.tasks.schema import Task

_ONE_RUN = Path(__file__).with_name("one_run.py")
NCU_SECONDS, SANITIZER_SECONDS = 60.0, 120.0
_ABSENT = 127  # a shell's own status for a program that was not found
_MOST_KERNELS = 3
_MOST_ERRORS = 5
_REASON = 200  # characters
_METRICS = {
    "gpu__time_duration.sum": "seconds",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "sm_percent",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": "dram_percent",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
    "launch__registers_per_thread": "registers",
}
_SECONDS = {"nsecond": 1e-9, "ns": 1e-9, "usecond": 1e-6, "us": 1e-6, "msecond": 1e-3, "ms": 1e-3, "second": 1, "s": 1}


@dataclass(frozen=True)
class Counters:
    """What the GPU counted for one launch of a kernel: throughputs in percent of the peak, registers of a thread.

    A figure that was not counted is NaN.
    """

    name: str
    seconds: float
    sm_percent: float
    dram_percent: float
    occupancy_percent: float
    registers: float


def kernel_counters(
    backend: Backend, arm: Arm, task: Task, kernels: Sequence[str], limit: float
) -> tuple[tuple[Counters, ...], str]:
    """Counters for one launch of each of the first three kernels, and why there are none ("" where ncu is absent).

    `kernels` are names as torch's profiler gives them, costliest first; `limit` is in seconds.
    """
    names = list(dict.fromkeys(filter(None, map(function_name, kernels))))[:_MOST_KERNELS]
    if not names:
        return (), ""
    done = _watched(backend, arm, task, ncu_argv(names), min(limit, NCU_SECONDS), runs=2)
    if isinstance(done, str):
        return (), done
    found = parse_counters(done.output)
    return found, "" if found else _why(done, "==ERROR==", "==WARNING==")


def memory_check(backend: Backend, arm: Arm, task: Task, limit: float) -> str:
    """What memcheck of one run says, as one line: "no errors", the first errors, or a reason; "" where it is absent."""
    # Every tensor with memory of its own: inside the blocks that torch keeps, nothing is out of bounds.
    env = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = _watched(backend, arm, task, sanitizer_argv(), min(limit, SANITIZER_SECONDS), runs=1, env=env)
    if isinstance(done, str):
        return done
    found = parse_memcheck(done.output)
    cut = found == "no errors" and done.exit_code != 0  # the run itself did not come to its end
    return _why(done, "========= Error:") if cut or not found else found


def ncu_argv(names: Sequence[str]) -> list[str]:
    """The command of which the program to watch is the end; the GPU's clocks are left as they are."""
    wanted = "|".join(map(re.escape, names))
    return [
        "ncu", "--csv", "--page", "details", "--print-units", "base", "--print-kernel-base", "function",
        "--config-file", "off", "--clock-control", "none", "--profile-from-start", "off",
        "--filter-mode", "per-launch-config", "--launch-count", "1",
        "--kernel-name", f"regex:^({wanted})$", "--metrics", ",".join(_METRICS),
    ]  # fmt: skip


def sanitizer_argv() -> list[str]:
    """The command of which the program to watch is the end. Failed calls of CUDA are torch's affair, not reported."""
    return [
        "compute-sanitizer", "--tool", "memcheck", "--report-api-errors", "no", "--show-backtrace", "no",
        "--print-limit", str(_MOST_ERRORS),
    ]  # fmt: skip


def function_name(kernel: str) -> str:
    """A kernel's function without return type, namespaces, template arguments and parameters; "" for a copy or fill."""
    if kernel.startswith(("Memcpy", "Memset")):
        return ""
    name = re.split(r"[<(]", kernel.replace("(anonymous namespace)", ""), maxsplit=1)[0]
    return re.split(r"::|\s", name)[-1]


def parse_counters(output: str) -> tuple[Counters, ...]:
    """The first launch of each kernel in ncu's CSV, which stands between lines of its own and of the program."""
    rows = csv.reader(line for line in output.splitlines() if line.startswith('"'))
    header = next((row for row in rows if "Metric Name" in row), [])
    found: dict[str, tuple[str, dict[str, float]]] = {}
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        field = _METRICS.get(cells.get("Metric Name", ""))
        name, value = cells.get("Kernel Name"), _number(cells.get("Metric Value", ""))
        if field is None or name is None or value is None:
            continue
        if field == "seconds":
            value *= _SECONDS.get(cells.get("Metric Unit", ""), float("nan"))
        launch, figures = found.setdefault(name, (cells.get("ID", ""), {}))
        if launch == cells.get("ID", ""):
            figures[field] = value
    empty = dict.fromkeys(_METRICS.values(), float("nan"))
    return tuple(Counters(name, **{**empty, **figures}) for name, (_, figures) in found.items())


def parse_memcheck(output: str) -> str:
    """What memcheck found, as one line; "" where it did not come to its end."""
    summary = re.search(r"^=+ ERROR SUMMARY: (\d+) errors?\b", output, re.MULTILINE)
    if summary is None:
        return ""
    if summary[1] == "0":
        return "no errors"
    # An error begins beside the bar, and what belongs to it is indented; the kernel comes first.
    errors = re.findall(r"^=+ (Invalid [^\n]*)(?:\n=+ {2,}at ([^\n]*))?", output, re.MULTILINE)
    shown = list(dict.fromkeys(f"{what} at {where}" if where else what for what, where in errors))[:_MOST_ERRORS]
    return ": ".join(filter(None, (f"{summary[1]} errors", "; ".join(shown))))


def _number(text: str) -> float | None:
    """A figure as ncu writes it, with commas between thousands."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _watched(
    backend: Backend,
    arm: Arm,
    task: Task,
    tool: Sequence[str],
    seconds: float,
    *,
    runs: int,
    env: Mapping[str, str] | None = None,
) -> Completed | str:
    """How that many runs under a tool ended, or why they did not ("" where the tool is absent)."""
    spec = replace(arm.spec, mounts=(*arm.spec.mounts, Mount(_ONE_RUN, f"/omniperf/{_ONE_RUN.name}")))
    workspace = Path(backend.where(spec, "/workspace"))
    config = {
        "workload": backend.where(spec, "/omniperf/workload.py"),
        "pythonpath": [str(workspace / path) for path in task.environment.pythonpath],
        "seeds": [secrets.randbits(63) for _ in range(runs)],
    }
    program = ["python", backend.where(spec, f"/omniperf/{_ONE_RUN.name}"), json.dumps(config)]
    there = f"command -v {tool[0]} >/dev/null || exit {_ABSENT}"
    try:
        with StandingSandbox(backend, spec) as sandbox:
            done = sandbox.run(f"{there}; exec {shlex.join([*tool, *program])}", seconds, env)
    except InfraError as error:
        return str(error)
    if done.exit_code == _ABSENT and not done.output:
        return ""
    return f"it {done.ending}" if done.stopped_by else done


def _why(done: Completed, *marks: str) -> str:
    """The line in which a tool says what is wrong, else the last one."""
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    said = next((line.removeprefix(mark) for mark in marks for line in lines if line.startswith(mark)), "")
    others = [line for line in lines if not line.startswith("==")]  # the program's own
    return (said.strip() or (others or [f"it {done.ending}"])[-1])[:_REASON]
