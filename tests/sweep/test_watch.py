"""Which sweep is the latest, and where it stands."""

from __future__ import annotations

import fcntl
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import OmniPerfError
from omniperf.results.events import ignore
from omniperf.results.journal import Journal
from omniperf.results.store import find_sweep
from omniperf.sweep.plan import make_plan
from omniperf.sweep.spec import Sweep
from omniperf.sweep.state import Watched, is_running
from omniperf.sweep.sweep import resume_sweep
from tests.example_result import RUN, example_result, write_attempt

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.settings import Settings


def begin(settings: Settings, run_id: str, attempts: int) -> Path:
    """A sweep as it is on disk when it has begun."""
    sweep = {"schema": "omniperf/sweep/v1", "tasks": ("quickstart",), "agents": ("pattern",), "attempts": attempts}
    folder = settings.results / run_id
    folder.mkdir(parents=True)
    plan = make_plan(Sweep.model_validate(sweep), run_id, settings)
    (folder / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    return folder


def test_the_latest_sweep_is_the_newest_even_without_a_result(settings: Settings) -> None:
    begin(settings, "20261120-080000-0001", 1)
    result = example_result()
    for run_id in ("20261120-080000-0001", "20261123-080000-0003"):  # the last is a run of one task: it has no plan
        identity = result.identity.model_copy(update={"run_id": run_id})
        write_attempt(settings.results, result.model_copy(update={"identity": identity}))
    newest = begin(settings, "20261122-080000-0002", 1)
    assert find_sweep(settings, "latest") == newest
    assert find_sweep(settings, "20261120") == settings.results / "20261120-080000-0001"


def test_what_was_started_before_the_sweep_was_resumed_does_not_run(settings: Settings) -> None:
    folder = begin(settings, RUN, 4)
    for n in range(1, 5):
        with Journal(folder / "quickstart" / f"pattern.{n}" / "journal.jsonl") as journal:
            journal.write("attempt")
    with Journal(folder / "journal.jsonl") as journal, (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        watched = Watched(folder)
        journal.write("sweep", attempts=4, finished=0, left=4)
        for n in range(1, 5):
            journal.write("started", attempt=f"quickstart/pattern.{n}")
        assert watched.look().running == 4
        journal.write("sweep", attempts=4, finished=0, left=4)
        journal.write("started", attempt="quickstart/pattern.1")
        journal.write("started", attempt="quickstart/pattern.2")
        assert watched.look().running == 2
        journal.write("ended", attempt="quickstart/pattern.1", how="signal SIGKILL", outcome=None)
        assert watched.look().running == 1


def test_a_sweep_of_another_user_is_seen_to_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock can be read, not written."""
    folder, opened = begin(settings, RUN, 1), os.open

    def as_another_user(path: Path, flags: int, mode: int = 0o777) -> int:
        if path == folder / ".lock" and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError
        return opened(path, flags, mode)

    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(os, "open", as_another_user)
        assert is_running(folder)


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_damaged_plan_is_said_to_be_one(text: str, settings: Settings) -> None:
    folder = begin(settings, RUN, 1)
    (folder / "plan.json").write_text(text)
    with pytest.raises(OmniPerfError, match=r"plan\.json is not a valid omniperf/plan/v1"):
        Watched(folder)
    with pytest.raises(OmniPerfError, match=r"plan\.json is not a valid omniperf/plan/v1"):
        resume_sweep(RUN, 1, settings, lambda _: nullcontext(ignore))
