"""The clock, outside: one worker process, timed from here.

A sample starts when `run` is written to the worker and ends when a digest of all its outputs has arrived, so work that
is put off, faked or handed to a thread is still inside, and a digest sent early does not fit the outputs that are
fetched afterwards and compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omniperf.measure.device import memory_used
from omniperf.measure.spawn import FreshProcess
from omniperf.sandbox.supervisor import SCRATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from omniperf.measure.spawn import Process
    from omniperf.measure.zygote import Zygote
    from omniperf.sandbox.spec import Backend, Spec
    from omniperf.tasks.schema import Task

_OUTPUT_LIMIT = 512 * 2**20
_GUARD_SECONDS = 0.25  # between looks at the memory of everything inside: limits of the kernel bind single processes
_PEAK_SECONDS = 0.003  # between looks where memory is what is measured: to touch 10 MiB takes about as long
_STEADY_SHARE, _WARM_SECONDS = 0.1, 0.05  # two warm-up runs about as long as each other, or so long after the first
_READY_SECONDS = 300.0  # importing and compiling a large tree for the first time


_T = TypeVar("_T")


class WorkloadError(Exception):
    """The workload did not do its part: it raised, died, sent what it should not, or did not finish in time."""


@dataclass(frozen=True)
class Arm:
    """One of the trees that are measured: its name and the sandbox that shows it at /workspace.

    `export` says that the workload's `export` runs in the worker, inside the timed region; `poison`, that memory which
    was never written holds NaN and large integers (`arms.poisoned` makes it so).
    """

    name: str
    spec: Spec
    export: bool = False
    poison: bool = False

    @property
    def gpus(self) -> tuple[str, ...]:
        """The UUIDs of the GPUs that it may use."""
        return tuple(filter(None, self.spec.env.get("CUDA_VISIBLE_DEVICES", "").split(",")))


@dataclass(frozen=True)
class Sample:
    """One timed batch. Times in seconds by the outer clock; memory in MiB.

    `overhead` is a second digest of the same outputs, without running anything: pipe, export and digest cost.
    `imported` is from the start of the process until the workload was imported, `setup` the making of the timed
    states, `total` everything up to the end of the timed region. `warm_output` and `warm_overhead` are those of the
    first warm-up run, of one state.
    `device_seconds` is the batch by the GPU's own clock, None without one; `replaced` are the clocks of the process
    that were no longer the originals after it. Both come from inside, so they can accuse but never acquit.

    Of whole processes: `startup` is from their start until they were ready, NaN where nobody asked; `figures` are what
    was printed for the task's metrics, `completed` the requests that a load generator saw answered. Of a service,
    `seconds` is the time of its load generator, and `imported` its start-up.
    """

    seconds: float
    overhead: float
    imported: float
    setup: float
    total: float
    peak_memory: float
    digest: str
    output: bytes
    warm_output: bytes = b""
    warm_overhead: float = 0.0
    printed: str = ""
    device_seconds: float | None = None
    replaced: tuple[str, ...] = ()
    startup: float = float("nan")
    figures: Mapping[str, float] = field(default_factory=dict)
    completed: int = 0


class Worker:
    """A fresh process in a fresh sandbox that holds the workload. A context manager: leaving it ends the process."""

    def __init__(
        self, backend: Backend, arm: Arm, task: Task, kind: str, zygote: Zygote | None = None,
        *, arguments: list[str] | None = None,
    ) -> None:  # fmt: skip
        assert task.workload is not None
        self.kind = kind
        spec = arm.spec
        self.counted = arm.gpus if any(metric.name == "peak_memory" for metric in task.metrics) else ()
        workspace = backend.where(spec, "/workspace")
        config = {
            "kind": kind,
            "export": arm.export,
            "poison": arm.poison,
            "workload": backend.where(spec, "/omniperf/workload.py"),
            "gpu": spec.gpu,
            "flush": task.primary_metric.name == "latency",
            "pause": bool(self.counted),
            "arguments": arguments or [],
            "pythonpath": [str(Path(workspace) / path) for path in task.environment.pythonpath],
        }
        self._config = config
        self._process: Process = FreshProcess(backend, spec) if zygote is None else zygote.child(arm)
        self._requests, self._replies, self._first = self._process.requests, self._process.replies, self._process.first
        self._memory_mib = spec.allowance.memory / 2**20
        self._buffer = b""
        try:
            self._send(json.dumps(config).encode() + b"\n")  # not in its argv, which code of the tree can read
            # Before any code of the tree is imported, whose memory is its own: what CUDA takes for itself.
            self.device_memory_before = 0.0
            if self.counted:
                self._record(_READY_SECONDS, "initialising CUDA")
                self.device_memory_before = memory_used(self.counted)
                self._send(b"go on\n")
            self._record(_READY_SECONDS, "importing the workload")
            self._pid = self._worker()
        except BaseException:
            self.close()
            raise

    def setup(
        self, seeds: list[int], seconds: float, shape: Mapping[str, object] | None = None, *, clean: bool = False
    ) -> None:
        """Make one state a seed; `shape` are further arguments of `setup`. Raises WorkloadError.

        With `clean` all garbage is collected before and after, as for a timed batch; else only what is young, before.
        """
        request = {"do": "setup", "seeds": seeds, "shape": dict(shape or {}), "clean": clean}
        self._ask(request, seconds, "setup")

    def run(self, seconds: float) -> tuple[float, str]:
        """Run every state once; return the wall seconds until the digest was here, and the digest."""
        self._expect_silence()
        started = time.perf_counter()
        self._send(b"run\n")
        line = self._line(seconds, "run")
        elapsed = time.perf_counter() - started
        return elapsed, self._digest(line, "run")

    def again(self, seconds: float) -> float:
        """The wall seconds of a digest alone."""
        self._expect_silence()
        started = time.perf_counter()
        self._send(b'{"do": "digest"}\n')
        line = self._line(seconds, "export")
        elapsed = time.perf_counter() - started
        self._digest(line, "export")
        return elapsed

    def output(self, seconds: float) -> bytes:
        """The bytes that the last digest was taken of."""
        self._send(b'{"do": "export"}\n')
        line = self._line(seconds, "export")
        if line.startswith(b"{"):
            raise WorkloadError(self._failure(line, "export"))
        if not line.isdigit() or len(line) > 12 or int(line) > _OUTPUT_LIMIT:
            raise WorkloadError(f"its output is not the announced bytes, at most {_OUTPUT_LIMIT >> 20} MiB")
        deadline, parts, missing = time.monotonic() + seconds, [self._buffer], int(line) - len(self._buffer)
        while missing > 0:
            parts.append(self._read(deadline, "export"))
            missing -= len(parts[-1])
        received = b"".join(parts)
        self._buffer = received[int(line) :]
        return received[: int(line)]

    def reached(self, seed: int, seconds: float) -> tuple[list[list[Any]], list[list[str]]]:
        """Run one state; return (file, function) of every function that ran, and (name, file) of all modules."""

        def read(told: dict[str, Any]) -> tuple[list[list[Any]], list[list[str]]]:
            pairs = ([[str(one), str(other)] for one, other in told[name]] for name in ("functions", "imported"))
            functions, modules = pairs
            return functions, modules

        return self._told({"do": "reach", "seed": seed}, seconds, "run", read)

    def profile(self, seeds: tuple[int, int, int], seconds: float) -> tuple[list[list[Any]], list[list[Any]]]:
        """Run one state under cProfile, and on a GPU one more under torch's profiler.

        Returns (file, line, function, calls, own seconds, total seconds) of the functions and (name, launches, seconds)
        of the kernels.
        """

        def read(told: dict[str, Any]) -> tuple[list[list[Any]], list[list[Any]]]:
            functions = [
                [str(file), int(line), str(name), int(calls), float(own), float(total)]
                for file, line, name, calls, own, total in told["functions"]
            ]
            return functions, [[str(name), int(count), float(taken)] for name, count, taken in told["kernels"]]

        return self._told({"do": "profile", "seeds": seeds}, seconds, "run", read)

    def inspected(self, seconds: float) -> tuple[float | None, tuple[str, ...]]:
        """The seconds of the last batch by the GPU's own clock, if there is one, and the clocks that were replaced."""

        def read(told: dict[str, Any]) -> tuple[float | None, tuple[str, ...]]:
            device = told["device_seconds"]
            return None if device is None else float(device), tuple(map(str, told["replaced"]))

        return self._told({"do": "inspect"}, seconds, "inspection", read)

    def look(self, seconds: float) -> None:
        """Look at the states that were made, for `kept` to compare with."""
        self._ask({"do": "look"}, seconds, "looking at its inputs")

    def kept(self, seconds: float) -> tuple[frozenset[str], frozenset[str]]:
        """The places in the states that `run` left as they were when looked at, and those that it changed."""

        def read(told: dict[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
            return frozenset(map(str, told["kept"])), frozenset(map(str, told["changed"]))

        return self._told({"do": "kept"}, seconds, "looking at its inputs", read)

    def refer(self, seconds: float) -> None:
        """Have the workload's own `reference` make the outputs, in the place of `run`."""
        self._ask({"do": "refer"}, seconds, "reference")

    def renew(self, seeds: tuple[int, int], seconds: float) -> bool:
        """Run one state and then, in the very same object, another; False where that object cannot hold the other.

        The outputs are those of the two runs. Raises WorkloadError.
        """
        return self._told({"do": "renew", "seeds": seeds}, seconds, "run", lambda told: told["renewed"] is True)

    def afresh(self, arguments: list[str], env: Mapping[str, str]) -> None:
        """Become a new process in the same sandbox, with that command line and environment. Raises WorkloadError.

        What the old one left in temporary folders, shared memory and other processes is still there.
        """
        self._send(json.dumps({"do": "afresh", "env": dict(env)}).encode() + b"\n")
        self._send(json.dumps({**self._config, "pause": False, "arguments": arguments}).encode() + b"\n")
        self._record(_READY_SECONDS, "importing the workload again")

    def device_memory(self, seconds: float) -> float:
        """The most that torch says it had taken of its GPUs so far, MiB."""
        return self._told({"do": "memory"}, seconds, "memory", lambda told: float(told["bytes"]) / 2**20)

    def peak_memory(self) -> float:
        """The peak resident memory so far of every process that is still inside, MiB, as the kernel counted it."""
        return sum(_status(pid, "VmHWM:") for pid in self._inside())

    def resident_memory(self) -> float:
        """The memory now of every process inside, MiB, and of the files that they keep in memory."""
        pids = self._inside()
        anonymous, shared = _held(pids)
        return anonymous + shared + sum(_status(pid, "RssFile:") for pid in pids)

    def _worker(self) -> int:
        try:
            return self._process.pid
        except (ValueError, OSError) as error:
            raise WorkloadError(str(error)) from None

    def _inside(self) -> list[int]:
        return _descendants(self._first) if self._first is not None else [self._pid, *_descendants(self._pid)]

    def _expect_silence(self) -> None:
        """What answers before it is asked has nothing to be timed."""
        if self._buffer or (
            select.select([self._replies], [], [], 0)[0] and self._read(time.monotonic() + 1, "waiting")
        ):
            raise WorkloadError("the worker answered before it was asked")

    def _digest(self, line: bytes, doing: str) -> str:
        if line.startswith(b"{"):
            raise WorkloadError(self._failure(line, doing))
        digest = line.decode("latin-1")
        if len(digest) != 64:
            raise WorkloadError(f"{doing} was answered by something that is not a digest")
        return digest

    def _ask(self, request: dict[str, object], seconds: float, doing: str) -> dict[str, Any]:
        self._send(json.dumps(request).encode() + b"\n")
        return self._record(seconds, doing)

    def _told(self, request: dict[str, object], seconds: float, doing: str, read: Callable[[dict[str, Any]], _T]) -> _T:
        """What the answer says, as `read` has it; code of a tree may have written anything."""
        told = self._ask(request, seconds, doing)
        try:
            return read(told)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise WorkloadError(f"{doing} was answered by something that is not its record") from None

    def _record(self, seconds: float, doing: str) -> dict[str, Any]:
        line = self._line(seconds, doing)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise WorkloadError(f"{doing} was answered by something that is not a record")
        if "error" in record:
            raise WorkloadError(self._failure(line, doing))
        return record

    @staticmethod
    def _failure(line: bytes, doing: str) -> str:
        try:
            record = json.loads(line)
            where = [row.strip() for row in record["trace"].splitlines() if row.strip().startswith("File ")]
            place = f" ({where[-1]})" if where else ""
            said = f"{doing} raised {record['error']}{place}"[:2000]
            return said.encode("utf-8", "backslashreplace").decode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return f"{doing} was answered by something that is not a record"

    def _send(self, data: bytes) -> None:
        self._next_look = time.monotonic() + _GUARD_SECONDS  # never before a quick answer, whose time it would add to
        try:
            os.write(self._requests, data)
        except BrokenPipeError:
            raise WorkloadError(self._ending("before it was asked to run")) from None

    def _line(self, seconds: float, doing: str) -> bytes:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if len(self._buffer) > 1 << 24:
                raise WorkloadError(f"{doing} was answered by something that is not a record")
            self._buffer += self._read(deadline, doing)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _read(self, deadline: float, doing: str) -> bytes:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise WorkloadError(f"{doing} did not finish in time")
            ready, _, _ = select.select([self._replies], [], [], min(self._until_look(doing), left))
            if ready:
                break
        data = os.read(self._replies, 1 << 20)
        if not data:
            raise WorkloadError(self._ending(f"during {doing}"))
        return data

    def _until_look(self, doing: str) -> float:
        """The seconds until memory is to be looked at again, after a look where it is time for one."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _GUARD_SECONDS
            if self._first is not None and resident_mib(self._first) > self._memory_mib:
                raise WorkloadError(f"{doing} took more than the task's {self._memory_mib / 1024:g} GiB of memory")
        return self._next_look - now

    def _ending(self, when: str) -> str:
        ended = self._process.ending(5.0)
        if ended is None:
            return f"the worker closed its channel {when}"
        status, said = ended
        ending = f"died of signal {-status}" if status < 0 else f"exited with status {status}"
        lines = said.strip().splitlines()
        return f"the process {ending} {when}" + (f": {lines[-1][:500]}" if lines else "")

    def close(self) -> None:
        """End the process and everything it started."""
        self._process.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _descendants(pid: int) -> list[int]:
    """All processes below that one."""
    found: list[int] = []
    frontier = [pid]
    while frontier:
        below: list[int] = []
        for parent in frontier:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{parent}/task").iterdir():
                    below += map(int, (task / "children").read_text().split())
        found += below
        frontier = below
    return found


def _status(pid: int, field: str) -> float:
    """A memory field of a process's status, MiB; 0 where the process is gone."""
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/status").open() as status:
        return next((int(line.split()[1]) / 1024 for line in status if line.startswith(field)), 0.0)
    return 0.0


def resident_mib(first: int) -> float:
    """Memory of everything below the first process of a sandbox that is not a file's on disk, MiB."""
    return sum(_held(_descendants(first)))


def _held(pids: list[int]) -> tuple[float, float]:
    """What processes hold alone, and what they may share, MiB: shared pages once, at their largest.

    A file in memory is memory too, whether it is mapped or not: those under the temporary folders of a sandbox, and
    those that have no name (memfd_create).
    """
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()).startswith("/memfd:"):
                        found = descriptor.stat()
                        files[found.st_dev, found.st_ino] = found.st_blocks * 512
    for folder in SCRATCH if _sandboxed(pids) else ():
        with contextlib.suppress(OSError):
            space = os.statvfs(f"/proc/{pids[0]}/root{folder}")
            files[0, len(files)] = (space.f_blocks - space.f_bfree) * space.f_frsize
    mapped = max((_status(pid, "RssShmem:") for pid in pids), default=0.0)
    return sum(_status(pid, "RssAnon:") for pid in pids), max(mapped, sum(files.values()) / 2**20)


def _sandboxed(pids: list[int]) -> bool:
    """Whether processes see other folders than the harness does."""
    with contextlib.suppress(OSError):
        return bool(pids) and Path(f"/proc/{pids[0]}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    return False


@dataclass(frozen=True)
class Timing:
    """How a batch is timed: states per batch, and the seconds after which a step counts as not finishing."""

    states: int = 1
    seconds: float = 600.0


class _Most(threading.Thread):
    """Looks at a figure every few milliseconds, in a thread, and keeps the largest. A context manager."""

    def __init__(self, look: Callable[[], float]) -> None:
        super().__init__(daemon=True)
        self.seen = 0.0
        self._look, self._over = look, threading.Event()

    def run(self) -> None:
        while not self._over.wait(_PEAK_SECONDS):
            self.seen = max(self.seen, self._look())

    def __enter__(self) -> _Most:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self.seen = max(self.seen, self._look())


def sample(
    backend: Backend, arm: Arm, task: Task, kind: str, seeds: list[int], timing: Timing, zygote: Zygote | None = None
) -> Sample:
    """Time one batch in a process of its own: the last `timing.states` seeds; those before warm up, as far as needed.

    A workload that is a whole process runs once, with the last seed. Raises WorkloadError.
    """
    if kind != "module":
        from omniperf.measure.process import sample_process

        return sample_process(backend, arm, task, kind, seeds[-1], timing)
    begun = time.perf_counter()
    counts_memory = any(metric.name == "peak_memory" for metric in task.metrics)
    with Worker(backend, arm, task, kind, zygote) as worker:
        imported = time.perf_counter() - begun
        devices, taken = worker.counted, worker.device_memory_before
        warm_digest, warm_output, warm_overhead = _warm_up(worker, seeds[: -timing.states], timing.seconds)
        asked = time.perf_counter()
        worker.setup(seeds[-timing.states :], timing.seconds, clean=True)
        setup = time.perf_counter() - asked
        # What is taken is looked at all the while: a process that has ended, a count that was reset and memory that was
        # given back before the end have been seen.
        look = (lambda: memory_used(devices) - taken) if devices else worker.resident_memory
        with _Most(look) if counts_memory else contextlib.nullcontext() as most:
            seconds, digest = worker.run(timing.seconds)
        total = time.perf_counter() - begun
        peak = worker.device_memory(timing.seconds) if devices else worker.peak_memory()
        if most is not None:
            peak = max(peak, most.seen)
            if not peak > 0:
                raise WorkloadError("no memory is seen to be taken")
        overhead = worker.again(timing.seconds)
        output = worker.output(timing.seconds)
        device, replaced = worker.inspected(timing.seconds)
    for data, claimed in ((warm_output, warm_digest), (output, digest)):
        if hashlib.sha256(data).hexdigest() != claimed:
            raise WorkloadError("the digest that stopped the clock is not the digest of the outputs")
    return Sample(
        seconds, overhead, imported, setup, total, peak, digest, output, warm_output,
        warm_overhead, device_seconds=device, replaced=replaced,
    )  # fmt: skip


def _warm_up(worker: Worker, seeds: list[int], seconds: float) -> tuple[str, bytes, float]:
    """Run one seed after the other until two take about as long; the first one's digest, output and overhead."""
    took, digest, output, overhead, begun = 0.0, "", b"", 0.0, 0.0
    for seed in seeds:
        worker.setup([seed], seconds)
        before, (took, told) = took, worker.run(seconds)
        if not digest:
            digest, output = told, worker.output(seconds)
            overhead, begun = worker.again(seconds), time.monotonic()
        elif abs(took - before) <= _STEADY_SHARE * took or time.monotonic() - begun > _WARM_SECONDS:
            break
    return digest, output, overhead
