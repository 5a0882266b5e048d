"""Lanes: the exclusive claim on cores and GPUs while something is timed, across processes and users of the host."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.measure.nvml import gpus
from omniperf.measure.turns import in_line
from omniperf.results.store import disk_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from omniperf.measure.nvml import Gpu
    from omniperf.tasks.schema import Resources

# Beside every user's processes, so under nobody's home or TMPDIR: a lane must exclude the whole host.
_LOCKS = Path("/tmp/omniperf-lanes")  # noqa: S108 - every user of the host has to find it
_LOOK = 0.01  # seconds between looks at several lanes


@dataclass(frozen=True)
class Lane:
    """A set of cores, and of GPUs by their UUIDs."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] = ()

    @property
    def locks(self) -> tuple[str, ...]:
        """The names of its locks, one a device, in the one order in which everybody takes them.

        A core's is that of the physical core: who runs on its other thread disturbs as much as on the same.
        """
        cores = sorted({_physical(core) for core in self.cores})
        return (*(f"gpu-{uuid}" for uuid in sorted(self.gpus)), *(f"cpu-{core}" for core in cores))

    @property
    def name(self) -> str:
        """The lane's name."""
        return "+".join(self.locks)


def find_lanes(wanted: Resources) -> tuple[Lane, ...]:
    """The lanes of this host that offer what a task needs. Raises InfraError (device) where there is none."""
    on_cores = cpu_lanes(wanted.cpus)
    return gpu_lanes(wanted, gpus(), on_cores) if wanted.gpus else on_cores


def cpu_lanes(cpus: int) -> tuple[Lane, ...]:
    """Disjoint lanes of that many cores each, from the highest core down.

    Of a core that runs several threads, a lane has the first alone and the others stay idle, unless there are too few
    cores for that. The lower half has no lanes, as far as one lane leaves so much: what is not timed runs there, and
    core 0 serves most interrupts. Raises InfraError (device) on a host with fewer cores.
    """
    threads = os.sched_getaffinity(0)
    cores = sorted(first_threads(threads), reverse=True)
    if len(cores) < cpus:
        cores = sorted(threads, reverse=True)
    if len(cores) < cpus:
        raise InfraError(
            "device", f"The task needs {cpus} cores, this process may use {len(cores)}.", "Lower `resources.cpus`."
        )
    usable = cores[: len(cores) - min(len(cores) // 2, len(cores) - cpus)]
    return tuple(Lane(tuple(usable[start : start + cpus])) for start in range(0, len(usable) - cpus + 1, cpus))


def beside_lanes(cpus: int) -> tuple[int, ...]:
    """Where what is not timed may run: the threads of cores that no lane of that many has; none where all have one.

    A lane of more cores may have some of them.
    """
    taken = {_physical(core) for lane in cpu_lanes(cpus) for core in lane.cores}
    return tuple(sorted(thread for thread in os.sched_getaffinity(0) if _physical(thread) not in taken))


def first_threads(threads: Iterable[int]) -> list[int]:
    """The lowest of the given threads of each physical core."""
    lowest: dict[int, int] = {}
    for thread in sorted(threads):
        lowest.setdefault(_physical(thread), thread)
    return list(lowest.values())


@lru_cache
def _physical(thread: int) -> int:
    """The number of a thread's physical core: its lowest thread's, as the kernel lists them ("3", "0,16" or "0-1")."""
    try:
        listed = Path(f"/sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list").read_text()
        return int(listed.replace(",", "-").split("-")[0])
    except (OSError, ValueError):
        return thread


def gpu_lanes(wanted: Resources, present: Sequence[Gpu], on_cores: tuple[Lane, ...]) -> tuple[Lane, ...]:
    """Disjoint lanes of that many GPUs each, with the cores of one of the given lanes.

    Raises InfraError (device) where too few GPUs have the memory that the task needs free.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # "" hides every GPU
        named = {name.strip() for name in visible.split(",")}
        present = [gpu for gpu in present if {gpu.uuid, str(gpu.index)} & named]
    # By all of its memory: what is free this moment says whether another attempt is measuring there.
    fit = [gpu for gpu in present if (gpu.memory_mib or 0) >= wanted.gpu_memory_gib * 1024]
    fit = [gpu for gpu in fit if wanted.gpus == 1 or not gpu.slice]
    if len(fit) < wanted.gpus:
        memory = f" with {wanted.gpu_memory_gib:g} GiB" if wanted.gpu_memory_gib else ""
        raise InfraError(
            "device",
            f"The task needs {wanted.gpus} NVIDIA GPU(s){memory}; this host has {len(fit)} of {len(present)}.",
            "Run `omniperf doctor`, and choose a host or a task that fits.",
        )
    starts = range(0, len(fit) - wanted.gpus + 1, wanted.gpus)
    groups = [tuple(gpu.uuid for gpu in fit[start : start + wanted.gpus]) for start in starts]
    return tuple(Lane(on_cores[i % len(on_cores)].cores, group) for i, group in enumerate(groups))


@contextmanager
def claimed(lanes: tuple[Lane, ...], waiting: Callable[[], None] = lambda: None) -> Iterator[Lane]:
    """Hold one of the lanes, the first that is free; where none is, call `waiting` once and wait for a turn.

    Who asked first has the first turn, whatever it is for: agents that look again and again do not keep a verification
    waiting longer than each once. Whoever waits holds nothing of another lane, and takes the locks of one in the one
    order that all keep to, so that those who want several devices cannot wait for each other.
    """
    with ExitStack() as held:
        yield _turn(lanes, held, waiting)


def _turn(lanes: tuple[Lane, ...], held: ExitStack, waiting: Callable[[], None]) -> Lane:
    """Wait in line, and hold a lane."""
    with disk_errors(_LOCKS):
        _shared_folder(_LOCKS)
        _shared_folder(_LOCKS / "waiting")
    with in_line(_LOCKS / "waiting", frozenset(name for lane in lanes for name in lane.locks)) as ticket:
        said = False
        while True:
            ahead = ticket.ahead()
            open_to_us = [lane for lane in lanes if not any(one.wanted & {*lane.locks} for one in ahead)]
            for lane in open_to_us:
                if (taken := at_once(lane)) is not None:
                    held.enter_context(taken)
                    return lane
            if not said:
                waiting()
                said = True
            if not open_to_us:
                ahead[0].wait()
            elif len(lanes) == 1:
                _take(lanes[0], held, 0)
                return lanes[0]
            else:  # the kernel waits for one lock at a time; at most one of the line is here for each lane
                time.sleep(_LOOK)


def at_once(lane: Lane) -> ExitStack | None:
    """Hold a lane until the stack is closed, if nobody else does; None where somebody does."""
    with ExitStack() as held:
        try:
            _take(lane, held, fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return held.pop_all()


def _take(lane: Lane, held: ExitStack, how: int) -> None:
    """Take all locks of a lane. Raises BlockingIOError where one is taken and `how` is not to wait."""
    for name in lane.locks:
        descriptor = _open(name)
        held.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)


def _open(name: str) -> int:
    """Open a lock file, which any user may have made."""
    path = _LOCKS / f"{name}.lock"
    _shared_folder(_LOCKS)
    try:  # without O_CREAT first: in a sticky folder the kernel refuses O_CREAT on another user's file
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        before = os.umask(0)
        try:
            with disk_errors(path):
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        finally:
            os.umask(before)


def _shared_folder(path: Path) -> None:
    """Make a folder in which every user may make files."""
    if not path.is_dir():
        before = os.umask(0)
        try:
            path.mkdir(mode=0o1777, exist_ok=True)
        finally:
            os.umask(before)


def held_now() -> list[str]:
    """The devices of this host on which somebody is timing, as the kernel lists locks: asking disturbs nobody."""
    try:
        fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:  # the kernel does not say
        return []
    inodes = {line[5].split(":")[2] for line in fields if line[1] == "FLOCK"}  # of who waits, the second field is `->`
    return [file.stem for file in sorted(_LOCKS.glob("*.lock")) if str(file.stat().st_ino) in inodes]


class LaneClock:
    """Counts the seconds that a lane was held, and those that were spent waiting for it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waited = 0.0

    @contextmanager
    def hold(self, lanes: tuple[Lane, ...], waiting: Callable[[], None] = lambda: None) -> Iterator[Lane]:
        """`claimed`, counted."""
        asked = time.monotonic()
        with claimed(lanes, waiting) as lane:
            started = time.monotonic()
            self.waited += started - asked
            try:
                yield lane
            finally:
                self.seconds += time.monotonic() - started
