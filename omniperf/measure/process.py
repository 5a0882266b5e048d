"""Whole processes under the outer clock: scripts, commands, and servers with the load generator that drives them.

Each sample is a fresh process in a fresh sandbox. What prints the figures that may decide, the load generator, has a
sandbox of its own without the tree and shares nothing with the server but a network of loopback alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omniperf.measure.arms import python_path
from omniperf.measure.clock import Sample, WorkloadError, resident_mib
from omniperf.measure.figures import last_object, masked, read_figures
from omniperf.measure.spawn import start_script
from omniperf.sandbox.loopback import Loopback
from omniperf.sandbox.spec import Mount
from omniperf.tasks.schema import Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from omniperf.measure.clock import Arm, Timing
    from omniperf.sandbox.spec import Backend, Spec
    from omniperf.tasks.schema import Task

_LAUNCH, _REACH = (Path(__file__).with_name(name) for name in ("launch.py", "reach.py"))
_PORT = 8471  # in a network that nobody else is in
_OUTPUT_LIMIT = 64 * 2**20
_SAID_LIMIT = 64 * 2**10  # of what a server prints, and of errors: only read by people
_LOOK_SECONDS = 0.25  # between looks at the memory of everything inside
_LAUNCH_SECONDS = 60.0
_READS = 32  # of 64 KiB at a time: more than a pipe holds, and an end where it is filled again and again
_STOP_SECONDS = 10.0
_OBSERVE, _HOOK, _SEEN = "OMNIPERF_OBSERVE", "/omniperf/reach", "/reached"
_ROWS = {"functions": (str, str), "modules": (str, str), "profile": (str, int, str, int, float, float)}
_SEEN_LIMIT = 64 * 2**20


class Program:
    """A command in a fresh sandbox of its own, which waits to be started. A context manager: leaving it ends all of it.

    `output` is what it printed so far, `errors` the end of what it said to standard error.
    """

    def __init__(
        self, backend: Backend, spec: Spec, name: str, argv: list[str], env: Mapping[str, str], *, endless: bool = False
    ) -> None:
        self.name, self.ended = name, False
        self.output, self.errors = bytearray(), bytearray()
        self._endless = endless
        self._memory_mib = spec.allowance.memory / 2**20
        self._process, self._first = start_script(backend, spec, _LAUNCH)
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._requests, self._stdout, self._stderr = (pipe.fileno() for pipe in pipes if pipe is not None)
        self._pid, self._alive = self._process.pid, -1
        self._inside = -1
        self.open: set[int] = set()
        try:
            if self._first is not None:
                self._inside = os.pidfd_open(self._first)
            self._tell(json.dumps({"argv": argv, "env": dict(env), "port": _PORT}).encode() + b"\n")
            os.set_blocking(self._stdout, False)
            os.set_blocking(self._stderr, False)
            self.open = {self._stdout, self._stderr}
            wait_until(lambda: b"ready\n" in self.output, [self], _LAUNCH_SECONDS, f"{name} was not launched in time")
            self.output.clear()
            if self._first is not None:
                self._pid = int(Path(f"/proc/{self._first}/task/{self._first}/children").read_text())
            self._alive = os.pidfd_open(self._pid)
            self.open.add(self._alive)
        except BaseException:
            self.close()
            raise

    def start(self) -> float:
        """Let it run; return when, by the clock that `wait_until` returns."""
        started = time.perf_counter()
        self._tell(b"run\n")
        return started

    def probe(self) -> None:
        """Have it print `open` once the port of its loopback takes a connection, before it is started."""
        self._tell(b"probe\n")

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        os.kill(self._pid, signal.SIGTERM)
        wait_until(lambda: self.ended, [self], _STOP_SECONDS, f"{self.name} did not end when asked to")

    def take(self, descriptor: int) -> None:
        """Take in what there is to read."""
        ends = descriptor not in (self._stdout, self._stderr)
        for pipe in sorted({self._stdout, self._stderr} & self.open) if ends else [descriptor]:
            self._read(pipe)
        if ends:
            self.open.discard(descriptor)
            self.ended = True

    def _read(self, pipe: int) -> None:
        kept = self.output if pipe == self._stdout else self.errors
        with suppress(BlockingIOError):
            for _ in range(_READS):
                data = os.read(pipe, 1 << 16)
                if not data:
                    self.open.discard(pipe)
                    return
                kept += data
                if len(self.output) > _OUTPUT_LIMIT and not self._endless:
                    raise WorkloadError(f"{self.name} printed more than {_OUTPUT_LIMIT >> 20} MiB")
                if kept is self.errors or self._endless:
                    del kept[:-_SAID_LIMIT]

    def look(self) -> None:
        """Raise WorkloadError where everything inside takes more memory than the task allows."""
        if self._first is not None and resident_mib(self._first) > self._memory_mib:
            raise WorkloadError(f"{self.name} took more than the task's {self._memory_mib / 1024:g} GiB of memory")

    def check(self) -> None:
        """Raise WorkloadError unless it ended with status 0."""
        if self.status() != 0:
            raise WorkloadError(self.ending())

    def status(self) -> int:
        """Its exit status; of one that a signal ended, 128 and the signal, as a shell has it."""
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def ending(self) -> str:
        """How it ended, and the last that it said."""
        status = self.status()
        ending = f"died of signal {status - 128}" if status > 128 else f"ended with status {status}"
        return f"{self.name} {ending}: {self.last_said()}"

    def last_said(self) -> str:
        """The last line of its errors, else of its output."""
        lines = bytes(self.errors or self.output[-_SAID_LIMIT:]).decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "it printed nothing"

    def _tell(self, line: bytes) -> None:
        try:
            os.write(self._requests, line)
        except BrokenPipeError:
            raise WorkloadError(f"{self.name} could not be launched: {self.last_said()}") from None

    def close(self) -> None:
        """End it and everything it started."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        if self._alive >= 0:
            os.close(self._alive)
        if self._inside >= 0:  # the sandbox's first process is gone when all others are
            gone = select.poll()
            gone.register(self._inside, select.POLLIN)
            gone.poll(1000 * _STOP_SECONDS)
            os.close(self._inside)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_until(done: Callable[[], bool], programs: Sequence[Program], seconds: float, failed: str) -> float:
    """Take in what programs print and how they end until `done`; return when that came, by `time.perf_counter`.

    Raises WorkloadError, saying `failed`, after so many seconds or where all pipes have closed in vain.
    """
    at = time.perf_counter()
    deadline, next_look = at + seconds, at + _LOOK_SECONDS
    while not done():
        owners = {descriptor: program for program in programs for descriptor in program.open}
        if not owners:
            raise WorkloadError(f"{failed}: {programs[0].last_said()}")
        if at >= deadline:
            raise WorkloadError(failed)
        waiting = select.poll()
        for descriptor in owners:
            waiting.register(descriptor, select.POLLIN)
        ready = waiting.poll(1000 * max(0.0, min(deadline, next_look) - at))
        at = time.perf_counter()
        for descriptor, _ in ready:
            owners[descriptor].take(descriptor)
        if at >= next_look:
            for program in programs:
                program.look()
            next_look = time.perf_counter() + _LOOK_SECONDS
    return at


def sample_process(backend: Backend, arm: Arm, task: Task, kind: str, seed: int, timing: Timing) -> Sample:
    """Time a script or command to its exit, or the load generator of a service to its own. Raises WorkloadError."""
    take = _sample_service if kind == "service" else _sample_command
    return take(backend, arm, task, seed, timing)


def _sample_command(backend: Backend, arm: Arm, task: Task, seed: int, timing: Timing) -> Sample:
    begun = time.perf_counter()
    assert task.workload is not None
    workload, spec = task.workload, arm.spec
    if workload.command is None:
        name, words = "the script", [_python(backend, spec), "/omniperf/workload.py", *workload.args]
    else:
        name, words = "the command", shlex.split(workload.command)
    env = {"OMNIPERF_SEED": str(seed), "PYTHONPATH": _imports(backend, spec, task)}
    with Program(backend, spec, name, _filled(words, backend, spec, seed), env) as program:
        launched = time.perf_counter() - begun
        started, startup = program.start(), float("nan")
        if workload.ready is not None:
            startup = _ready(workload.ready, program, [program], started)
        failed = f"{name} did not end within {timing.seconds:g} s"
        left = timing.seconds - (time.perf_counter() - started)
        seconds = wait_until(lambda: program.ended, [program], left, failed) - started
        program.check()
        total = time.perf_counter() - begun
        printed = program.output.decode("utf-8", "replace")
    figures = read_figures(task, printed)
    output = masked(task, printed).encode("utf-8", "surrogatepass")
    return Sample(
        seconds, 0.0, launched, 0.0, total, float("nan"), hashlib.sha256(output).hexdigest(), output,
        printed=printed, startup=startup, figures=figures,
    )  # fmt: skip


def _sample_service(backend: Backend, arm: Arm, task: Task, seed: int, timing: Timing) -> Sample:
    begun = time.perf_counter()
    assert task.workload is not None
    assert task.workload.serve is not None
    workload, sign = task.workload, task.workload.ready or Ready(port=True)
    with Loopback() as network, _load_spec(arm.spec, task) as load_spec:
        spec, load_spec = (replace(one, joins=network.namespaces) for one in (arm.spec, load_spec))
        serving = _filled(shlex.split(workload.serve), backend, spec, seed=None)
        loading = [_python(backend, load_spec), f"/omniperf/{workload.load}", *workload.args]
        told = {"OMNIPERF_SEED": str(seed), "OMNIPERF_PORT": str(_PORT)}
        served = {"PYTHONPATH": _imports(backend, spec, task)}
        with (
            Program(backend, spec, "the server", serving, served, endless=True) as server,
            Program(backend, load_spec, "the load generator", _filled(loading, backend, load_spec, seed), told) as load,
        ):
            both = [server, load]
            if sign.port:
                load.probe()
            startup = _ready(sign, server, both, server.start(), load)
            load.output.clear()
            started = load.start()
            failed = f"{load.name} did not end within {timing.seconds:g} s"
            seconds = wait_until(lambda: load.ended or server.ended, both, timing.seconds, failed) - started
            if server.ended:
                raise WorkloadError(f"{server.ending()} while the load generator ran")
            if load.status() != 0:
                raise WorkloadError(f"{load.ending()} (the server's last words: {server.last_said()})")
            if spec.env.get(_OBSERVE, "").startswith("profile:"):
                server.stop()  # its profile is written at its end
            total = time.perf_counter() - begun
            printed = load.output.decode("utf-8", "replace")
    report, output = last_object(printed), b""
    completed = report.get("completed")
    if type(completed) is not int or completed < 1:
        raise WorkloadError(f"the load generator reports {completed!r} as `completed`, which is no number of requests")
    if workload.outputs != "none":
        if report.get("outputs") in (None, "", [], {}):
            raise WorkloadError("the load generator reports no `outputs`")
        output = json.dumps(report["outputs"], sort_keys=True, indent=0).encode()
    return Sample(
        seconds, 0.0, startup, 0.0, total, float("nan"), hashlib.sha256(output).hexdigest(), output,
        printed=printed, startup=startup, figures=read_figures(task, printed), completed=completed,
    )  # fmt: skip


def _ready(
    sign: Ready, starting: Program, programs: Sequence[Program], started: float, prober: Program | None = None
) -> float:
    """The seconds until a program that has been started is ready."""

    def is_ready() -> bool:
        if sign.port:
            return prober is not None and b"open\n" in prober.output
        said = (bytes(kept).decode("utf-8", "replace") for kept in (starting.output, starting.errors))
        return any(re.search(sign.regex or "", text) for text in said)

    failed = f"{starting.name} was not ready within {sign.seconds:g} s"
    at = wait_until(lambda: starting.ended or is_ready(), programs, sign.seconds, failed)
    if not is_ready():
        raise WorkloadError(f"{starting.ending()}; it never was ready")
    return at - started


@contextmanager
def _load_spec(spec: Spec, task: Task) -> Iterator[Spec]:
    """The sandbox of the load generator: the task's environment and files, and an empty folder for a tree."""
    assert task.workload is not None
    assert task.workload.load is not None
    shown = [mount for mount in spec.mounts if mount.target == "/env" or mount.target in _file_targets(task)]
    load = Mount(task.folder / task.workload.load, f"/omniperf/{task.workload.load}")
    with tempfile.TemporaryDirectory(prefix="omniperf-") as empty:
        Path(empty).chmod(0o755)
        yield replace(spec, mounts=(Mount(Path(empty), "/workspace"), *shown, load), gpu=False)


def _file_targets(task: Task) -> set[str]:
    assert task.workload is not None
    return {f"/omniperf/{name}" for name in task.workload.files}


def _python(backend: Backend, spec: Spec) -> str:
    return f"{backend.where(spec, '/env')}/bin/python"


def _filled(words: Sequence[str], backend: Backend, spec: Spec, seed: int | None) -> list[str]:
    """The words with port and seed in them, and with the files of the harness where they are."""
    places = {mount.target: backend.where(spec, mount.target) for mount in spec.mounts}
    values = {"{port}": str(_PORT), **({} if seed is None else {"{seed}": str(seed)})}
    filled = []
    for word in words:
        for name, value in values.items():
            word = word.replace(name, value)
        filled.append(places.get(word, word))
    return filled


def _imports(backend: Backend, spec: Spec, task: Task) -> str:
    """PYTHONPATH: the task's folders, after what observes the process where something does."""
    hook = [backend.where(spec, mount.target) for mount in spec.mounts if mount.target == _HOOK]
    return os.pathsep.join([*hook, *filter(None, [python_path(task, backend, spec)])])


def observe_process(
    backend: Backend, arm: Arm, task: Task, kind: str, timing: Timing, what: Literal["reach", "profile"], seed: int
) -> dict[str, list[list[Any]]]:
    """Run it once with something in every Python process of the tree that notes what runs; never to time it.

    For `reach`: `functions` and `modules`, rows of (file, name). For `profile`: `profile`, rows of (file, line,
    function, calls, own seconds, total seconds) of main threads. Raises WorkloadError.
    """
    with tempfile.TemporaryDirectory(prefix="omniperf-") as made:
        hook, seen = Path(made) / "hook", Path(made) / "seen"
        hook.mkdir()
        seen.mkdir()
        shutil.copyfile(_REACH, hook / "sitecustomize.py")
        for folder in (hook, seen):
            folder.chmod(0o777)  # the sandbox's user is another
        spec = replace(arm.spec, mounts=(*arm.spec.mounts, Mount(hook, _HOOK), Mount(seen, _SEEN, writable=True)))
        spec = replace(spec, env={**spec.env, _OBSERVE: f"{what}:{backend.where(spec, _SEEN)}"})
        sample_process(backend, replace(arm, spec=spec), task, kind, seed, timing)
        return {name: _rows(seen, name) for name in _ROWS}


def _rows(folder: Path, name: str) -> list[list[Any]]:
    """The rows of a name that processes wrote: whatever else the tree's code left in the folder is passed over."""
    rows = []
    for file in sorted(folder.glob(f"{name}-*")):
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _SEEN_LIMIT:
            continue
        for line in file.read_bytes().splitlines():
            with suppress(ValueError, RecursionError):  # torn: its process was killed
                row = json.loads(line)
                if isinstance(row, list) and tuple(map(type, row)) == _ROWS[name]:
                    rows.append(row)
    return rows
