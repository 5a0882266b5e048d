"""Figures that a process prints: read strictly, and left out of the output that is compared."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from omniperf.measure.clock import WorkloadError

if TYPE_CHECKING:
    from omniperf.tasks.schema import Metric, Task

_MASK = "<figure>"


def last_object(printed: str) -> dict[str, Any]:
    """The JSON object on the last line that is not blank. Raises WorkloadError; a key that is given twice is one."""
    lines = printed.rstrip().rsplit("\n", 1)
    try:
        found = json.loads(lines[-1], object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(
            f"the last line that it printed is no JSON object: {error} in {lines[-1][:200]!r}"
        ) from None
    if not isinstance(found, dict):
        raise WorkloadError(f"the last line that it printed is no JSON object: {lines[-1][:200]!r}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def read_figures(task: Task, printed: str) -> dict[str, float]:
    """Every figure of the task's metrics that is read, by name.

    Raises WorkloadError for one that is missing, printed more than once, or no finite number above zero.
    """
    return {metric.name: _figure(metric, printed) for metric in task.metrics if metric.reading is not None}


def _figure(metric: Metric, printed: str) -> float:
    assert metric.reading is not None
    said = f"metric {metric.name}: {metric.reading}"
    if metric.reading.regex is not None:
        matches = re.findall(metric.reading.regex, printed)
        if len(matches) != 1:
            raise WorkloadError(f"{said} matches {len(matches)} times in what it printed, not once")
        value: object = matches[0]
    else:
        value = last_object(printed)
        for key in (metric.reading.json_ or "").split("."):
            if not isinstance(value, dict) or key not in value:
                raise WorkloadError(f"{said} is not in the object that it printed last")
            value = value[key]
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise WorkloadError(f"{said} gives {str(value)[:100]!r}, which is no finite number above zero")
    return number


def masked(task: Task, printed: str) -> str:
    """What was printed without its figures, which differ from run to run."""
    assert task.workload is not None
    readings = [metric.reading for metric in task.metrics if metric.reading is not None]
    if paths := [reading.json_ for reading in readings if reading.json_ is not None]:
        found = last_object(printed)
        for path in paths:
            *folders, name = path.split(".")
            within = found
            for folder in folders:
                within = within[folder]
            within[name] = _MASK
        before = printed.rstrip().rpartition("\n")[0]
        printed = f"{before}\n{json.dumps(found, sort_keys=True)}\n"
    patterns = [reading.regex for reading in readings if reading.regex is not None]
    for pattern in (*patterns, *filter(None, (task.workload.printed,))):
        printed = re.sub(pattern, _MASK, printed)
    return printed
