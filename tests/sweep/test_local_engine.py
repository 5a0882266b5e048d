"""The engine of this host, with attempts that only talk: what passes through its pipes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from omniperf.gateway.process import Gateway
from omniperf.results.events import ignore
from omniperf.settings import from_plain, load_settings, to_plain
from omniperf.sweep import launcher
from omniperf.sweep.engine import Ended, Item
from omniperf.sweep.launcher import Launcher
from omniperf.sweep.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

MANY, LINES = 300, 40


def test_settings_reach_another_process_as_they_are(settings: Settings) -> None:
    for given in (settings, load_settings(), load_settings({"mirrors": ["/srv/mirrors"], "sandbox": "none"})):
        assert to_plain(from_plain(to_plain(given))) == to_plain(given)


def test_attempts_that_fail_at_once_fill_no_pipe(settings: Settings, tmp_path: Path) -> None:
    """Each ends with an error, since its task was never made ready; all are asked for before anybody reads."""
    spec = {"run_id": "x", "agent": "null", "n": 1}
    with LocalEngine(MANY, settings, ignore) as engine:
        for n in range(MANY):
            engine.submit(Item(f"t/null.{n}", "task.yaml", str(tmp_path / str(n)), str(tmp_path / f"s{n}"), spec))
        ended: list[str] = []
        while len(ended) < MANY:
            ended += [report.id for report in engine.reports(30) if isinstance(report, Ended)]
    assert sorted(ended) == sorted(f"t/null.{n}" for n in range(MANY))


def test_long_messages_do_not_tear_each_other(settings: Settings) -> None:
    reader, writer = os.pipe()
    said = {"phase": "agent", "message": "\N{SNAKE}" * 1000, "data": {"x": "y" * 5000}}
    children = []
    gateway = Gateway()
    for child in range(4):
        if not (pid := os.fork()):
            launcher = Launcher(settings, writer, gateway)
            for _ in range(LINES):
                launcher._say({"id": str(child), **said})
            os._exit(0)
        children.append(pid)
    os.close(writer)
    gateway.close()
    with os.fdopen(reader, "rb") as out:
        found = [json.loads(line) for line in out]
    for pid in children:
        os.waitpid(pid, 0)
    assert len(found) == 4 * LINES
    assert all(set(one["message"]) == {"\N{SNAKE}"} for one in found)


def test_tasks_are_proved_beside_each_other_where_there_are_cores(
    make_task: Callable[..., Task],
    settings: Settings,
    tmp_path: Path,
    bubblewrap: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is proved in a fork, once: the launcher itself finds the proof in the cache."""
    monkeypatch.setattr(launcher, "_CORES_OF_A_PROOF", 0.5)
    monkeypatch.setattr("tempfile.tempdir", None)  # a launcher has a process, and so a folder, of its own
    toy = make_task().folder
    other = toy.parent / "other"
    shutil.copytree(toy, other)
    (other / "task.yaml").write_text((other / "task.yaml").read_text().replace("id: toy", "id: other"))
    items = [
        asdict(
            Item(f"{folder.name}/null.1", str(folder / "task.yaml"), "", "", {"run_id": "x", "agent": "null", "n": 1})
        )
        for folder in (toy, other)
    ]
    reader, writer = os.pipe()
    with Gateway() as gateway:
        Launcher(replace(settings, cache=tmp_path / "cache"), writer, gateway)._do({"prepare": items})
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = [json.loads(line) for line in pipe]
    opened = [line["message"].split(":")[0] for line in said if "repository" in line.get("message", "")]
    proved = [line["message"].split(":")[0] for line in said if "proving base" in line.get("message", "")]
    assert sorted(opened) == ["other", "other", "toy", "toy"]  # once in a fork, once in the launcher
    assert sorted(proved) == ["other", "toy"], said
    assert said[-1] == {"prepared": True}
