"""Cheap samples: workers forked from a process that has imported the trusted packages already.

A fresh interpreter is the reference. Where importing what the tree does not own takes longer than a second (torch and
triton above all), a zygote imports it once for a block of pairs, and both arms of the block are forked from it: they
share hash seed and layout, so the zygote of the next block is a new one. `forker` is what runs inside.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from omniperf.errors import InfraError
from omniperf.measure.lanes import Lane, at_once, first_threads
from omniperf.measure.spawn import WORKER, only_child
from omniperf.sandbox.spec import Mount, confinement, environment, with_script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omniperf.measure.clock import Arm
    from omniperf.sandbox.spec import Backend

_FORKER = Path(__file__).with_name("forker.py")
_READY_SECONDS = 120.0
_CHILD_SECONDS = 30.0
_TRIES = 6
_OWN = ("workspace", "compiled")  # folders of which each arm has its own


class ZygoteError(InfraError):
    """There can be no zygote here; fresh interpreters serve. `module` is the one that cannot be preloaded, if any."""

    def __init__(self, said: str, module: str = "") -> None:
        super().__init__("spawn", said, "Run it again.")
        self.module = module


class Zygotes:
    """The zygotes of one measurement, a new one for every block. A context manager.

    Nothing to preload means fresh interpreters. Where there are cores enough beside the lane's that nobody measures on,
    the next block's zygote imports there while this block is measured; as many as the lane has, since libraries count
    them when they are imported.
    """

    def __init__(self, backend: Backend, preload: Sequence[str]) -> None:
        self._backend, self._preload = backend, tuple(preload) if backend.nests else ()
        self._current: Zygote | None = None
        self._next: Zygote | None = None
        self._keep = False
        self._beside: ExitStack | None = None  # holds the cores on which the next one imports

    @property
    def used(self) -> bool:
        """Whether samples are forked."""
        return bool(self._preload)

    def of_block(self, arms: Sequence[Arm], *, keep: bool = False) -> Zygote | None:
        """The zygote for a block of those arms, or None for fresh interpreters; with `keep` the next block has it too.

        Raises ZygoteError.
        """
        if not self._preload:
            return None
        kept, self._keep = self._keep, keep
        if kept and self._current is not None and self._current.arms == tuple(arms):
            return self._current
        if self._current is not None:
            self._current.close()
            self._current = None
        cores = arms[0].spec.cores
        if self._next is not None and self._next.arms != tuple(arms):
            self._next.close()
            self._next = None
        self._current, self._next = self._next or self._ready(arms, cores), None
        self._current.wait()
        taken = set(Lane(tuple(cores)).locks)
        free = (core for core in first_threads(os.sched_getaffinity(0)) if taken.isdisjoint(Lane((core,)).locks))
        # The first is the harness's own. The next are far from the lane's, which are the highest: guests are often not
        # told which of their cores are two threads of one, and neighbours may be.
        beside = tuple(list(free)[1 : 1 + len(cores)])
        if len(beside) == len(cores) and (held := at_once(Lane(beside))) is not None:
            self._beside = held
            self._next = Zygote(self._backend, arms, self._preload, beside)
        return self._current

    def settle(self) -> None:
        """Wait until the next one has imported, and give its cores back: who waits for a lane must hold nothing."""
        if self._next is not None:
            try:
                self._next.wait()
            except ZygoteError:
                self._next.close()
                self._next = None
        self._leave()

    def _leave(self) -> None:
        """Let others measure on the cores where a zygote has imported."""
        if self._beside is not None:
            self._beside.close()
            self._beside = None

    def _ready(self, arms: Sequence[Arm], cores: Sequence[int]) -> Zygote:
        """A zygote that has imported all that can be imported before a fork."""
        for _ in range(_TRIES):
            zygote = Zygote(self._backend, arms, self._preload, cores)
            try:
                zygote.wait()
            except ZygoteError as error:
                zygote.close()
                within = (error.module, f"{error.module}.")
                left = tuple(name for name in self._preload if name != within[0] and not name.startswith(within[1]))
                if not error.module or not left:
                    raise
                self._preload = left
            else:
                return zygote
        raise ZygoteError(f"{_TRIES} of the modules cannot be imported before a fork")

    def give_up(self) -> None:
        """From now on, fresh interpreters."""
        self._preload = ()
        for zygote in (self._current, self._next):
            if zygote is not None:
                zygote.close()
        self._current = self._next = None
        self._leave()

    def __enter__(self) -> Zygotes:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()


class Zygote:
    """One zygote for two arms on one lane, sealed or not. Raises ZygoteError. It imports while the caller goes on."""

    def __init__(self, backend: Backend, arms: Sequence[Arm], preload: Sequence[str], cores: Sequence[int]) -> None:
        self.arms = tuple(arms)
        first = arms[0].spec
        own = [mount.target for mount in first.mounts if Path(mount.target).parts[1] in _OWN]
        self._own = _tops(own)
        # Where children see their arm's folders it has empty ones: packages make their caches when they are imported.
        self._empty = tempfile.TemporaryDirectory(prefix="omniperf-")
        mounts = [mount for mount in first.mounts if mount.target not in own]
        for target in self._own:
            empty = Path(self._empty.name, target.replace("/", "-"))
            empty.mkdir()
            mounts.append(Mount(empty, target, writable=True))
        mounts += [
            replace(mount, target=f"/arms/{arm.name}{mount.target}")
            for arm in arms
            for mount in arm.spec.mounts
            if mount.target in own
        ]
        spec = with_script(with_script(replace(first, mounts=tuple(mounts), mounts_more=True), WORKER), _FORKER)
        config = {
            "preload": list(preload),
            "folders": [str(folder) for folder in first.host_packages],
            "cores": list(cores),
            "worker": f"/omniperf/{WORKER.name}",
            "confined": "/omniperf/confined.py",
            "scratch": first.allowance.scratch,
        }
        self._channel, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inside:
            argv = [f"{backend.where(spec, '/env')}/bin/python", "-S", "-s", f"/omniperf/{_FORKER.name}"]
            self._process = backend.start(spec, argv, environment(backend, spec), stdin=inside.fileno(), own_init=True)
        self._ready = False
        self._channel.settimeout(_READY_SECONDS)
        try:
            self._channel.send(json.dumps(config).encode())
        except OSError:
            self._fail()

    def child(self, arm: Arm) -> ZygoteChild:
        """A worker's process for one of the arms, which may be sealed by now. Raises ZygoteError."""
        self.wait()
        requests_inside, requests = os.pipe()
        replies, replies_inside = os.pipe()
        errors, errors_inside = os.pipe()
        given = [requests_inside, replies_inside, errors_inside]
        writable = {mount.target: mount.writable for mount in arm.spec.mounts}
        places = {target: (f"/arms/{arm.name}{target}", writable[target]) for target in self._own}
        message = {"arm": places, "confine": confinement(arm.spec, isolated=True)}
        try:
            socket.send_fds(self._channel, [json.dumps(message).encode()], given)
            _, received, _, _ = socket.recv_fds(self._channel, 16, 1)
        except OSError:  # nothing in time: whatever there is of a child ends with its zygote
            received = []
            self._process.kill()
        finally:
            for descriptor in given:
                os.close(descriptor)
        if not received:
            os.close(requests)
            os.close(replies)
            with os.fdopen(errors, "rb") as told:
                why = told.read().decode(errors="replace").strip()
            raise ZygoteError(why or "the zygote made no child")
        (pidfd,) = received
        return ZygoteChild(requests, replies, errors, pidfd)

    def wait(self) -> None:
        """Return when it has imported everything. Raises ZygoteError."""
        if self._ready:
            return
        try:
            said = json.loads(self._channel.recv(1 << 16) or b"{}")
        except (OSError, ValueError):
            said = {}
        if "error" in said:
            raise ZygoteError(said["error"], said["module"])
        if not said:
            self._fail()
        self._ready = True
        self._channel.settimeout(_CHILD_SECONDS)

    def _fail(self) -> NoReturn:
        self._process.kill()
        _, stderr = self._process.communicate()
        raise ZygoteError((stderr.decode(errors="replace").strip().splitlines() or ["it ended"])[-1])

    def close(self) -> None:
        """End the zygote and all its children."""
        self._channel.close()
        self._process.kill()
        self._process.communicate()
        self._empty.cleanup()


def _tops(targets: Sequence[str]) -> list[str]:
    """The targets that are not inside another."""
    return [one for one in targets if not any(one != other and Path(one).is_relative_to(other) for other in targets)]


class ZygoteChild:
    """A worker forked from a zygote, as `spawn.Process` has it."""

    def __init__(self, requests: int, replies: int, errors: int, pidfd: int) -> None:
        self.requests, self.replies = requests, replies
        self._errors, self._pidfd = errors, pidfd
        told = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        self.first: int | None = int(told.partition("\nPid:")[2].split()[0])

    @property
    def pid(self) -> int:
        """As `spawn.Process` has it."""
        assert self.first is not None
        return only_child(self.first)

    def ending(self, seconds: float) -> tuple[int, str] | None:
        """As `spawn.Process` has it."""
        said, deadline = b"", time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self._errors], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self._errors, 1 << 16)
            if not data:
                break
            said += data
        text, _, status = said.decode(errors="replace").rstrip("\n").rpartition("\n")
        return (int(status), text) if status.lstrip("-").isdigit() else (1, f"{text}\n{status}")

    def close(self) -> None:
        """End the worker and everything it started; return when all of it has gone."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        select.select([self._pidfd], [], [], _CHILD_SECONDS)
        for descriptor in (self.requests, self.replies, self._errors, self._pidfd):
            os.close(descriptor)
