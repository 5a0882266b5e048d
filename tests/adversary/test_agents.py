"""Agents that attack: each attempt ends on time and says truly how, and nobody else is hurt or overheard."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.measure.bench import open_bench
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.results.store import load_result
from omniperf.sweep.run import run_task
from tests.adversary.cases import Seen, files, load_agent, said
from tests.adversary.conftest import Host, Named, left_behind
from tests.test_attempt import install

if TYPE_CHECKING:
    from omniperf.agents.protocol import Session
    from omniperf.settings import Settings
    from tests.conftest import MakeTask

# Little of everything, so that an attack on it is over soon and takes nothing from the host that runs the tests.
LIMITS = """\
limits: {command_seconds: 5, minutes: 0.5}
resources: {memory_gib: 0.25}
measure: {rule: sequence, max_pairs: 6, max_minutes: 0.3}
"""


@pytest.mark.parametrize("file", files("agents"), ids=lambda file: file.stem)
def test_an_attack_wins_nothing_and_hurts_nobody(
    make_task: MakeTask, settings: Settings, scratch: Path, named: Named, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:  # fmt: skip
    case = load_agent(file)
    task = make_task(LIMITS)
    bench = open_bench(task, settings, ignore)
    neighbour = bench.workspace("neighbour")
    earlier = settings.results / "earlier"
    earlier.mkdir(parents=True)
    human = bench.source.human or ""
    hidden = (human, human[:8], "secret of the human commit", "fromkeys", str(settings.worktrees), str(settings.cache))
    watched = (task.folder, neighbour.root, earlier, bench.seal.git_dir, bench.environment.venv)
    host = Host(watched, scratch, hidden)
    monkeypatch.setenv("ANTHROPIC_API_KEY", host.canary)
    loot: list[str] = []

    def body(session: Session) -> None:
        loot.append(str(case["attack"](session)))

    install(monkeypatch, body)
    folder, results = run_task(
        task, AttemptSpec(run_id="", agent="scripted", n=0), case.get("ATTEMPTS", 1), settings, ignore
    )
    result = results[-1]
    named(file, result.verdict, case, result.outcome.kind)
    assert result.outcome.kind in case["OUTCOME"], result.outcome
    assert result.verdict.class_ in case["ENDS"], said(result.verdict)
    place = folder / task.id / f"scripted.{len(results)}"
    assert load_result(place) == result
    assert result.usage.wall_seconds < 60
    assert [secret for secret in host.hidden if secret in "".join(loot)] == []
    assert host.hurt() == []
    if "check" in case:
        seen = Seen("".join(loot), result, place)
        case["check"](seen)
    neighbour.remove()


def test_the_watch_sees_what_was_done(tmp_path: Path, scratch: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    host = Host((tree,), scratch, ())
    assert host.hurt() == []
    (tree / "file").chmod(0o400)
    (tree / "new").symlink_to("/")
    (scratch / "left").touch()
    assert {Path(path).name for path in host.hurt()} == {"file", "new", "left"}
    mark = f"left-by-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as left, subprocess.Popen(("sleep", "9")) as child:
        left.bind(f"\0{mark}")
        named, ours = left_behind(mark)
        child.kill()
    assert named.endswith(f"@{mark}")
    assert ours == f"our child {child.pid}"
