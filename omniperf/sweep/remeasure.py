"""Measuring patches again on this host: those of finished attempts, and those of a predictions file.

Both were written elsewhere and are not trusted: an id in them finds a task among those known here, and is never a path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import omniperf
from omniperf.errors import OmniPerfError, UsageError
from omniperf.measure.bench import open_bench
from omniperf.record import now
from omniperf.results.schema import Verification
from omniperf.results.store import LARGEST, append_line, load_result, read_plain, write_whole
from omniperf.tasks.load import list_tasks, task_sha256
from omniperf.verify.preflight import preflight
from omniperf.verify.verdict import verify_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from omniperf.measure.bench import Bench
    from omniperf.results.events import Emit, Event
    from omniperf.results.schema import Verdict, VerdictClass
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from omniperf.verify.preflight import Preflight


@dataclass(frozen=True)
class Claim:
    """A patch to measure, and whose it is. Errors begin with `where`; `before` is what its attempt's verdict was."""

    where: str
    task: Task
    label: str
    patch: bytes
    before: VerdictClass | None = None


Found = tuple[list[Claim], list[OmniPerfError]]
"""What can be measured, and an error for each patch that cannot."""


def claims_of_attempts(folders: Iterable[Path], settings: Settings, *, force: bool) -> Found:
    """The patches of finished attempts; with `force` also where task or patch are not those of the result any more."""
    tasks = _known_tasks(settings)

    def claim(folder: Path) -> Claim:
        result, file = load_result(folder), folder / "model_patch.diff"
        patch = read_plain(file) if os.path.lexists(file) else b""
        identity = result.identity
        task = _task(tasks, identity.task_id)
        if task_sha256(task) != identity.task_sha256 and not force:
            raise UsageError(f"task {task.id} is not what it was for this attempt.", "Measure all the same: --force.")
        was = result.patch.sha256 if result.patch else hashlib.sha256(b"").hexdigest()
        if hashlib.sha256(patch).hexdigest() != was and not force:
            raise UsageError("model_patch.diff is not the patch of its result.json.", "Measure all the same: --force.")
        return Claim("", task, f"{identity.label}.{identity.n}", patch, result.verdict.class_)

    return _claims(((str(folder), folder) for folder in folders), claim)


def claims_of_predictions(file: Path, settings: Settings) -> Found:
    """The patches of a file as SWE-bench and GSO write it.

    Each line has `instance_id` (a task's id), `model_name_or_path` and `model_patch`. Raises UsageError where there is
    no such file.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        said = f"The predictions {file} cannot be read ({error.strerror})."
        raise UsageError(said, "Give an existing .jsonl file.") from None
    tasks = _known_tasks(settings)
    seen: set[tuple[str, str]] = set()

    def claim(line: bytes) -> Claim:
        try:
            record = json.loads(line)
            name, model, patch = (record.get(key) for key in ("instance_id", "model_name_or_path", "model_patch"))
            if not isinstance(name, str) or not isinstance(model or "", str) or not isinstance(patch or "", str):
                raise ValueError
            data = (patch or "").encode("utf-8", "surrogateescape")
        except (ValueError, AttributeError, RecursionError):
            said = "not a JSON object with the texts instance_id, model_name_or_path and model_patch."
            raise UsageError(said) from None
        if (name, model or "") in seen:
            raise UsageError(f"a second patch of {model or 'nobody'} for {name}.", "Keep one.")
        seen.add((name, model or ""))
        return Claim("", _task(tasks, name), model or "", data)

    with stream:
        lines = iter(lambda: stream.readline(LARGEST), b"")
        return _claims(((f"{file}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()), claim)


def verify_claims(
    claims: Sequence[Claim],
    settings: Settings,
    emit: Emit,
    record: Callable[[Mapping[str, object]], None],
    *,
    versus_human: bool = False,
    out: Path | None = None,
) -> tuple[list[Verification], list[OmniPerfError]]:
    """Measure every claim, and keep each verdict under `out` as it is known; an error for each that failed.

    The patches of one task share the confidence that it asks for, as the attempts of a run do. What is under `out`
    already, of the same patch and task, is not measured again.
    """
    benches: dict[str, tuple[Bench, Preflight]] = {}
    found, problems = [], []
    sharing = Counter(claim.task.id for claim in claims)
    for claim in claims:

        def said(event: Event, label: str = f"{claim.task.id}/{claim.label}") -> None:
            emit(replace(event, data={**event.data, "attempt": label}) if len(claims) > 1 else event)

        digest = hashlib.sha256(claim.patch).hexdigest()
        folder = out / claim.task.id / digest[:16] if out is not None else None
        try:
            kept = _kept(folder, task_sha256(claim.task), digest)
            if kept is None:
                if claim.task.id not in benches:
                    bench = open_bench(claim.task, settings, said)
                    benches[claim.task.id] = bench, preflight(bench, said)
                bench, proved = benches[claim.task.id]
                verdict = verify_patch(
                    bench, claim.patch, proved, _recorder(folder, record), said,
                    claims=sharing[claim.task.id], versus_human=versus_human,
                )  # fmt: skip
                kept = _verification(bench, claim, verdict)
                if folder is not None:
                    dumped = kept.model_dump_json(by_alias=True, indent=1)
                    write_whole(folder / "verification.json", dumped.encode())
        except OmniPerfError as error:
            problems.append(_of(claim.where, error))
        else:
            found.append(kept.model_copy(update={"label": claim.label, "before": claim.before}))
    return found, problems


def _recorder(folder: Path | None, record: Callable[[Mapping[str, object]], None]) -> Callable[..., None]:
    """What keeps each measured pair: `record`, and the folder of the verdict, begun anew."""
    if folder is None:
        return record
    file = folder / "measurements.jsonl"
    file.unlink(missing_ok=True)  # of a batch that was stopped, or of another task

    def keep(line: Mapping[str, object]) -> None:
        record(line)
        append_line(file, line)

    return keep


def _verification(bench: Bench, claim: Claim, verdict: Verdict) -> Verification:
    return Verification(
        task_id=claim.task.id,
        task_sha256=task_sha256(claim.task),
        label=claim.label,
        patch_sha256=hashlib.sha256(claim.patch).hexdigest(),
        before=claim.before,
        verdict=verdict,
        finished=now(),
        omniperf_version=omniperf.__version__,
        environment=bench.environment_facts(),
        sandbox=bench.backend.name,
    )


def _kept(folder: Path | None, task: str, patch: str) -> Verification | None:
    """What an earlier batch found of that patch and task."""
    if folder is not None:
        with suppress(OSError, ValueError, OmniPerfError):  # absent or damaged: measure it
            kept = Verification.model_validate_json(read_plain(folder / "verification.json"))
            if (kept.task_sha256, kept.patch_sha256) == (task, patch):
                return kept
    return None


def _claims(given: Iterable[tuple[str, Any]], claim: Callable[[Any], Claim]) -> Found:
    claims, problems = [], []
    for where, what in given:
        try:
            claims.append(replace(claim(what), where=where))
        except OmniPerfError as error:
            problems.append(_of(where, error))
    return claims, problems


def _of(where: str, error: OmniPerfError) -> OmniPerfError:
    """The error, saying where it was met."""
    error.message = f"{where}: {error.message}" if where else error.message
    return error


def _known_tasks(settings: Settings) -> dict[str, Task]:
    """The tasks known here by their ids; of two, the one that its name finds."""
    return {entry.task.id: entry.task for entry in reversed(list_tasks(settings)) if entry.task is not None}


def _task(tasks: Mapping[str, Task], task_id: str) -> Task:
    if task_id not in tasks:
        raise UsageError(f"there is no task {task_id!r} here.", "Name the folder that has it with --tasks.")
    return tasks[task_id]
