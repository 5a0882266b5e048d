"""A sweep whose provider fails at random moments, and which is resumed each time, comes to what it comes to without.

CHAOS_OUTAGES="60 30 1" pytest tests/chaos        (attempts, outages, seed of their moments)
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import pytest

from omniperf.results.store import load_result, read_lines
from omniperf.sweep.outcome import finished
from tests.agents.loopback import Call, Fail, Gone, Loopback, Say, Step, replies_in
from tests.agents.test_faults import EDIT, FINISH
from tests.chaos.test_killed_sweeps import patches
from tests.sweep.commands import Sweeps

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

ATTEMPTS, OUTAGES, SEED = (int(part) for part in os.environ.get("CHAOS_OUTAGES", "2 1 3").split())
MOST_RESUMES = 10 * OUTAGES
KEY = "sk-chaos-0123456789abcdef"
KINDS = ("refuses", "resets", "529", "500", "hangs", "breaks off")
SWEEP = """\
schema: omniperf/sweep/v1
tasks: [{task}]
agents:
- {{agent: openai, label: chat, options: {{model: gpt-6.2-sol, api: chat, base_url: "{url}/v1"}}}}
- {{agent: anthropic, label: messages, options: {{model: claude-opus-5-5, base_url: "{url}"}}}}
attempts: {attempts}
verify: false
"""


class Provider:
    """A model server that has outages: after so many calls, for so many calls, or for a second where it is gone."""

    def __init__(self, seed: int, outages: int) -> None:
        self._draw, self._left = random.Random(seed), outages
        self.had: list[str] = []
        self._lock = Lock()
        self._down, self._closed = Event(), False
        self._fine, self._failing = self._draw.randint(3, 8), 0
        self._server = Loopback()
        self.url, port = self._server.url, int(self._server.url.rpartition(":")[2])
        self._server.play(self._answer)
        self._port = port
        self._thread = Thread(target=self._refuse_sometimes, daemon=True)
        self._thread.start()

    def _answer(self, call: Call) -> Step:
        kind = self._kind()
        if kind == "hangs":
            time.sleep(0.5)  # and nobody else is answered meanwhile
        if kind in ("refuses", "resets", "hangs"):
            return Gone()
        if kind in ("529", "500"):
            return Fail(int(kind), "overloaded_error" if kind == "529" else "api_error")
        turn = replies_in(call.body)
        step = EDIT if turn == 0 else FINISH
        return Say("I look.", step.calls, cut=True) if kind == "breaks off" else step

    def _kind(self) -> str:
        """How this call fails; "" for one that does not."""
        with self._lock:
            if self._failing:
                self._failing -= 1
                return self.had[-1]
            if self._left == 0 or self._fine:
                self._fine = max(0, self._fine - 1)
                return ""
            self._left -= 1
            self.had.append(KINDS[len(self.had) % len(KINDS)])
            self._fine, self._failing = self._draw.randint(3, 8), self._draw.randint(6, 24)
            if self.had[-1] == "refuses":
                self._failing = 0
                self._down.set()
            return self.had[-1]

    def _refuse_sometimes(self) -> None:
        while self._down.wait() and not self._closed:
            self._down.clear()
            self._server.close()
            time.sleep(self._draw.uniform(1, 3))
            self._server = Loopback(self._port)
            self._server.play(self._answer)

    def close(self) -> None:
        self._closed = True
        self._down.set()
        self._thread.join()
        self._server.close()


@pytest.fixture
def sweeps(settings: Settings, tmp_path: Path, bubblewrap: None) -> Sweeps:
    """The command line, with keys that open nothing, and short pauses."""
    made = Sweeps(settings, tmp_path)
    hasty = tmp_path / "hasty"
    hasty.mkdir()
    (hasty / "sitecustomize.py").write_text("import omniperf.gateway.backoff as b\nb.FIRST_WAIT = 0.02\n")
    path = os.pathsep.join([str(hasty), str(Path(__file__).parents[2])])
    made.env |= {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY, "PYTHONPATH": path}
    return made


def done(run: Path) -> dict[str, bytes]:
    """The results that are there for good, by attempt."""
    found = {file.parent: file.read_bytes() for file in run.glob("*/*/result.json")}
    return {str(place): text for place, text in found.items() if finished(load_result(place))}


def test_a_provider_that_fails_over_and_over_loses_nothing(
    sweeps: Sweeps, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    task, file = make_task(), tmp_path / "sweep.yaml"

    def write(url: str) -> None:
        file.write_text(SWEEP.format(task=task.folder, url=url, attempts=ATTEMPTS // 2))

    calm = Provider(SEED, 0)
    write(calm.url)
    whole = json.loads(sweeps.run("sweep", str(file), "--jobs", "4", "--json"))
    calm.close()
    wanted = patches(Path(whole["folder"]))
    assert len(wanted) == whole["finished"] == ATTEMPTS
    assert len(set(wanted.values())) == 1

    provider = Provider(SEED, OUTAGES)
    write(provider.url)
    run, kept = None, dict[str, bytes]()
    try:
        for _ in range(MOST_RESUMES):
            command = ("resume", run.name) if run else ("sweep", str(file))
            process = sweeps.start(*command, "--jobs", "4", "--json")
            _, err = process.communicate(timeout=300)
            assert "Traceback" not in err
            later = [one for one in sweeps.settings.results.iterdir() if one.name != Path(whole["folder"]).name]
            if not later:  # the provider was away before there was a plan
                continue
            (run,) = later
            now = done(run)
            assert {name: now.get(name) for name in kept} == kept
            kept = now
            if process.returncode == 0 and len(kept) == ATTEMPTS:
                break
    finally:
        provider.close()
    assert run is not None
    assert len(provider.had) == OUTAGES
    assert patches(run) == wanted
    identities = [load_result(Path(place)).identity for place in kept]
    assert len({(one.task_id, one.label, one.n) for one in identities}) == len(identities) == ATTEMPTS
    assert len(list(read_lines(run / "predictions.jsonl"))) == ATTEMPTS
    assert json.loads((run / "summary.json").read_text())["verdicts"] == {"unverified": ATTEMPTS}
    assert not any(KEY.encode() in text.read_bytes() for text in run.rglob("*") if text.is_file())
