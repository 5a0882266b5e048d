"""The launcher: a process that makes tasks ready once, and forks one attempt after another from what it holds.

    python -m omniperf.sweep.launcher        (JSON lines in, JSON lines out; ends when its input ends)

A fork has everything imported and every task open, which would cost each attempt a second. It is one thread, and makes
no connection that a child would share.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.attempt import run_attempt
from omniperf.errors import InfraError, OmniPerfError
from omniperf.gateway.process import Entrance
from omniperf.measure.host import host_facts
from omniperf.prompt.history import with_history
from omniperf.record import AttemptSpec
from omniperf.results.events import Event
from omniperf.results.redact import clean
from omniperf.results.start import read_start
from omniperf.results.store import disk_errors
from omniperf.settings import from_plain
from omniperf.sweep.collected import collected, last_step, measure_collected
from omniperf.sweep.ready import check_agent, check_agent_on, make_ready
from omniperf.tasks.load import load_task
from omniperf.verify.integrity.trajectory import inspect_trajectory

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.sweep.ready import Ready

_PR_SET_PDEATHSIG = 1
_SHOWN = 1000  # characters of a message
_CORES_OF_A_PROOF = 4.0  # roughly: those that the build, tests and workload of one task keep busy
_WHOLE = select.PIPE_BUF  # bytes of a line up to which several may write to one pipe and none is torn


class Launcher:
    """What is ready, and which attempts run."""

    def __init__(self, settings: Settings, out: int, gateway: Entrance) -> None:
        self._settings, self._out, self._gateway = settings, out, gateway
        self._tasks: dict[tuple[str, str, bool], Ready] = {}
        self._running: dict[int, str] = {}

    def serve(self) -> None:
        """Do what the lines on standard input say, until it ends."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        buffer = b""
        while True:
            ready, _, _ = select.select([0, woken], [], [])
            if woken in ready:
                os.read(woken, 1 << 12)
                self._reap()
            if 0 not in ready:
                continue
            if not (data := os.read(0, 1 << 16)):
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._do(json.loads(line))

    def _do(self, message: dict[str, Any]) -> None:
        if "run" in message:
            self._fork(message["run"])
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
                    _die_with(launcher)
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

    def _fork(self, item: dict[str, Any]) -> None:
        launcher = os.getpid()
        pid = os.fork()
        if pid:
            self._running[pid] = item["id"]
            return
        code = 1
        try:
            _become_an_attempt(launcher, Path(item["folder"]))
            self._attempt(item)
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException as error:
            if isinstance(error, OmniPerfError):
                self._say({"id": item["id"], "phase": "report", "message": str(error), "data": {}})
            with suppress(OSError):  # the disk may be full
                print(clean(traceback.format_exc()), file=sys.stderr, flush=True)  # noqa: T201
        finally:
            os._exit(code)

    def _attempt(self, item: dict[str, Any]) -> None:
        """Make an attempt, or measure what one that was killed had collected."""
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
            measure_collected(bench, ready.proved, spec, prompt, folder, emit)
        else:
            point = last_step(folder, spec.agent)
            run_attempt(bench, ready.proved, spec, prompt, folder, emit, point, self._gateway)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            how = "" if code == 0 else f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            if pid in self._running:
                self._say({"id": self._running.pop(pid), "how": how})

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
    host_facts.cache_clear()  # they are those of an attempt's beginning


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


def _become_an_attempt(launcher: int, folder: Path) -> None:
    """Die with the launcher; take nothing from its input, and keep what Python itself might print."""
    _die_with(launcher)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "logs" / "process.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before that held
        os._exit(1)


def main() -> None:
    """Read the settings, then serve."""
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            return
        line += byte
    first = json.loads(line)
    _die_with(first["parent"])
    settings = from_plain(first["settings"])
    out = os.dup(1)
    os.set_inheritable(out, False)
    os.dup2(2, 1)  # what anything prints is not an answer
    Launcher(settings, out, Entrance.inherited(first["gateway"])).serve()


if __name__ == "__main__":
    main()
