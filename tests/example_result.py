"""A finished attempt as it lies on disk, to show and to read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omniperf.results import schema
from omniperf.results.schema import Estimate, Interval, MetricResult, PatchFile, Result
from omniperf.results.store import write_whole

if TYPE_CHECKING:
    from pathlib import Path

RUN = "20261121-104500-3f2a"

PATCH = b"""\
diff --git a/lib/count.py b/lib/count.py
index 1111111..2222222 100644
--- a/lib/count.py
+++ b/lib/count.py
@@ -1,7 +1,7 @@
 def words(text):
-    found = []
--- not a header, a removed line
-    for word in text.split():
+    found = set()
+++ not a header either
+    for word in sorted(text.split()):
         if word not in found:
             found.append(word)
     return len(found)
diff --git a/docs/old name.txt b/docs/new name.txt
similarity index 100%
rename from docs/old name.txt
rename to docs/new name.txt
diff --git a/logo.png b/logo.png
index 3333333..4444444 100644
GIT binary patch
delta 5
McmZ3)0AT0<

delta 5
McmZ3)0AT0<

"""


def estimate(speedup: float) -> Estimate:
    """An estimate with intervals of a few percent around it."""
    return Estimate(
        speedup=speedup,
        interval=Interval(low=speedup * 0.97, high=speedup * 1.03, confidence=0.95),
        claim=Interval(low=speedup * 0.95, high=speedup * 1.05, confidence=0.99),
        pairs=12,
        noise=0.012,
        minimum_detectable_effect=0.009,
    )


def example_result(**changes: Any) -> Result:
    """An improved attempt of the agent `pattern`; `changes` replace whole fields of it."""
    verdict = schema.Verdict(
        **{"class": "improved"},
        reason="the lower bound 1.75 is above 1 + margin",
        speedup=estimate(1.84),
        metrics=(
            MetricResult(
                name="latency", unit="s", primary=True, base_median=0.00234, candidate_median=0.001271,
                estimate=estimate(1.84),
            ),
            MetricResult(
                name="peak_memory", unit="MiB", primary=False, base_median=41.5, candidate_median=41.7,
                estimate=estimate(0.995), guard=1.05, guard_held=True,
            ),
        ),
        correctness=schema.Correctness(
            tests_passed=True, outputs_equal=True, outputs_compared=24, seeds=6, fresh_states=3, shapes_compared=1,
            inputs_kept=True, probes_held=("identity-cache", "second-process"),
        ),
        findings=(
            schema.Finding(
                id="dead-cache", severity="warn", message="a cache\nthat is never read",
                evidence="lib/count.py:12: _cache = {}", remedy="Remove it.",
            ),
        ),
        cost=schema.Cost(wall_seconds=14.2, lane_seconds=9.1, samples=24),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "identity": schema.Identity(
            run_id=RUN, attempt_id="a1b2c3d4", task_id="quickstart", task_sha256="0" * 64, prompt_sha256="1" * 64,
            prompt_template="optimize@2", prompt_template_sha256="2" * 64, agent="pattern", agent_version="1",
            label="pattern", n=1, omniperf_version="0.1.0",
        ),
        "started": "2026-11-21T10:45:00Z",
        "finished": "2026-11-21T10:45:31Z",
        "outcome": schema.Outcome(kind="finished", finish_called=True),
        "patch": schema.PatchInfo(
            sha256="ab" * 32, bytes=len(PATCH), added=3, removed=3, in_scope=False,
            files=(
                PatchFile(path="lib/count.py", status="modified", added=3, removed=3),
                PatchFile(path="docs/new name.txt", status="renamed", old_path="docs/old name.txt", in_scope=False),
                PatchFile(path="logo.png", status="modified"),
            ),
        ),
        "verdict": verdict,
        "usage": schema.Usage(steps=14, wall_seconds=31.2, seconds_to_first_edit=2.5, seconds_to_first_gain=8.0),
        "provenance": schema.Provenance(source="path", base="f" * 40, base_tree="e" * 40),
        "environment": {
            "cpu": {"model": "Example CPU 9000", "cores": 2}, "gpus": [], "python": "3.11.7", "packages": {},
        },
        "sandbox": "bubblewrap",
    }  # fmt: skip
    return Result(**{**fields, **changes})


def write_attempt(results: Path, result: Result, patch: bytes = PATCH) -> Path:
    """Lay an attempt out under a results folder as a run does, and return its folder."""
    identity = result.identity
    folder = results / identity.run_id / identity.task_id / f"{identity.label}.{identity.n}"
    write_whole(folder / "result.json", result.model_dump_json(by_alias=True, indent=2).encode())
    write_whole(folder / "model_patch.diff", patch)
    return folder
