"""The launcher: a process that makes tasks ready once, and forks one attempt after another from what it holds.

    python -m omniperf.sweep.launcher        (JSON lines in, JSON lines out; ends when its input ends)

A fork has everything imported and every task open, which would cost each attempt a second. It is one thread, and makes
no connection that a child would share.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.agents.discover import load_agent
from omniperf.attempt import run_attempt
from omniperf.errors import InfraError, OmniPerfError
from omniperf.gateway.process import Entrance
from omniperf.measure.host import host_facts
from omniperf.prompt.history import with_history
from omniperf.record import AttemptSpec
from omniperf.results.events import Event
from omniperf.results.start import read_start
from omniperf.results.store import disk_errors
from omniperf.settings import from_plain
from omniperf.sweep.collected import collected, last_step, measure_collected
from omniperf.sweep.outcome import finished
from omniperf.sweep.processes import Processes, die_with
from omniperf.sweep.ready import check_agent, check_agent_on, make_ready
from omniperf.tasks.load import load_task
from omniperf.verify.integrity.trajectory import inspect_trajectory

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.sweep.ready import Ready

_SHOWN = 1000  # characters of a message
_CORES_OF_A_PROOF = 4.0  # roughly: those that the build, tests and workload of one task keep busy
_WHOLE = select.PIPE_BUF  # bytes of a line up to which several may write to one pipe and none is torn


class Launcher:
    """What is ready, and which attempts run."""

    def __init__(self, settings: Settings, out: int, gateway: Entrance) -> None:
        self._settings, self._out, self._gateway = settings, out, gateway
        self._tasks: dict[tuple[str, str, bool], Ready] = {}
        self._processes = Processes(self._attempt, self._say)

    def serve(self) -> None:
        """Do what the lines on standard input say, until it ends."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        buffer = b""
        while True:
            ready, _, _ = select.select([0, woken, self._processes.fileno()], [], [])
            if self._processes.fileno() in ready:
                self._processes.rest()
            if woken in ready:
                if signal.SIGTERM in os.read(woken, 1 << 12):
                    self._processes.end()
                    return
                self._processes.reap()
            if 0 not in ready:
                continue
            if not (data := os.read(0, 1 << 16)):
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._do(json.loads(line))

    def _do(self, message: dict[str, Any]) -> None:
        if "run" in message:
            self._processes.start(message["run"], fresh=not _forgets(_spec(message["run"])))
            return
        own = self._settings.worktrees / "tmp"  # so that what a kill leaves is found with the worktrees
        try:
            with disk_errors(own):
                own.mkdir(parents=True, mode=0o700, exist_ok=True)
            tempfile.tempdir = str(own)
            for item in message["prepare"]:
                check_agent(_spec(item))
            self._prove_beside(message["prepare"])
            for item in message["prepare"]:
                check_agent_on(self._open(item).bench, _spec(item), self._emit, self._gateway)
        except OmniPerfError as error:
            about = {"message": error.message, "remedy": error.remedy, "output": error.output[-_SHOWN:]}
            self._say({"refused": {**about, "exit_code": error.exit_code}})
        else:
            _keep_pages()
            signal.signal(signal.SIGTERM, lambda *_: None)  # before that, it ends at once
            self._say({"prepared": True})

    def _prove_beside(self, items: list[dict[str, Any]]) -> None:
        """Prove tasks in forks, several at once where there are cores for it: what they find is kept in the cache.

        What one of them meets does not count: the launcher will meet it too, or it was passing.
        """
        tasks = {_key(item, _spec(item)): item for item in items}
        at_once = min(len(tasks), int(len(os.sched_getaffinity(0)) / _CORES_OF_A_PROOF))
        launcher, proving = os.getpid(), list[int]()
        for item in tasks.values() if at_once > 1 else ():
            if len(proving) == at_once:
                os.waitpid(proving.pop(0), 0)
            if (pid := os.fork()) == 0:
                try:
                    die_with(launcher)
                    self._made_ready(item)
                except OmniPerfError as error:
                    self._emit(Event("preflight", f"{error.message} It will be tried once more.", {}))
                finally:
                    os._exit(0)
            proving.append(pid)
        for pid in proving:
            os.waitpid(pid, 0)

    def _open(self, item: dict[str, Any]) -> Ready:
        """The task of an item, opened, proved and rehearsed once. Raises what `make_ready` raises."""
        key = _key(item, _spec(item))
        if key not in self._tasks:
            ready = self._made_ready(item)
            _rehearse(ready, replace(self._settings, worktrees=Path(item["scratch"])))
            self._tasks[key] = ready
        return self._tasks[key]

    def _made_ready(self, item: dict[str, Any]) -> Ready:
        return make_ready(load_task(item["task_file"], self._settings), _spec(item), self._settings, self._emit)

    def _emit(self, event: Event) -> None:
        self._say(_plain(event))

    def _attempt(self, item: dict[str, Any]) -> bool:
        """Make an attempt, or measure what one that was killed had collected. Whether its process may make another."""
        host_facts.cache_clear()  # they are those of an attempt's beginning
        spec = _spec(item)
        ready, folder = self._tasks[_key(item, spec)], Path(item["folder"])

        def emit(event: Event) -> None:
            if not event.data.get("transient"):
                self._say({"id": item["id"], **_plain(event)})

        scratch = Path(item["scratch"])
        (scratch / "tmp").mkdir(parents=True, mode=0o700)
        tempfile.tempdir = str(scratch / "tmp")
        bench = replace(ready.bench, settings=replace(self._settings, worktrees=scratch))
        spec = replace(spec, prompt_check=ready.checked, start=read_start(folder))
        prompt = with_history(ready.prompt, spec.start) if spec.start else ready.prompt
        if collected(folder) is not None:
            result = measure_collected(bench, ready.proved, spec, prompt, folder, emit)
        else:
            point = last_step(folder, spec.agent)
            result = run_attempt(bench, ready.proved, spec, prompt, folder, emit, point, self._gateway)
        return _forgets(spec) and finished(result)

    def _say(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, default=str).encode() + b"\n"
        if len(line) > _WHOLE:  # what is for people gives way
            message = {**message, "message": message.get("message", "")[: _WHOLE // 16], "data": {}}
            line = json.dumps(message, default=str).encode() + b"\n"
        os.write(self._out, line)


def _rehearse(ready: Ready, settings: Settings) -> None:
    """Make an attempt of no consequence: what is found out and kept under way, no attempt finds out again.

    Raises InfraError where the host fails it.
    """
    bench = replace(ready.bench, settings=settings)
    spec = AttemptSpec("rehearsal", "null", 1, verify=False, prompt_check=ready.checked)
    with tempfile.TemporaryDirectory(prefix="omniperf-rehearsal-") as folder:
        outcome = run_attempt(bench, ready.proved, spec, ready.prompt, Path(folder), lambda _: None).outcome
    if outcome.infra_kind is not None:
        raise InfraError(outcome.infra_kind, outcome.detail, "Run `omniperf doctor`.")
    inspect_trajectory([{"kind": "step", "command": "true"}], bench.task)


def _forgets(spec: AttemptSpec) -> bool:
    """Whether an attempt may share a process with others like it: what is measured has one of its own."""
    return not spec.verify and getattr(load_agent(spec.agent, spec.options), "forgets", False)


def _keep_pages() -> None:
    """Let no child's collector touch, and so copy, every page of what there is now."""
    gc.collect()
    gc.freeze()


def _plain(event: Event) -> dict[str, Any]:
    return {"phase": event.phase, "message": event.message[:_SHOWN], "data": dict(event.data)}


def _spec(item: dict[str, Any]) -> AttemptSpec:
    return AttemptSpec(**item["spec"])


def _key(item: dict[str, Any], spec: AttemptSpec) -> tuple[str, str, bool]:
    return item["task_file"], spec.template, spec.hints


def main() -> None:
    """Read the settings, then serve."""
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            return
        line += byte
    first = json.loads(line)
    die_with(first["parent"])
    settings = from_plain(first["settings"])
    out = os.dup(1)
    os.set_inheritable(out, False)
    os.dup2(2, 1)  # what anything prints is not an answer
    Launcher(settings, out, Entrance.inherited(first["gateway"])).serve()
    os._exit(0)  # there is much in memory, and to take it apart takes a while


if __name__ == "__main__":
    main()
