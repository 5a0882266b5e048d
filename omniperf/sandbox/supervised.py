"""How a sandbox's supervisor comes to be: started inside, or taken in by a process that has it ready (`enter.py`)."""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from omniperf.errors import InfraError
from omniperf.sandbox.spec import confined, with_script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from omniperf.sandbox.spec import Backend, Spec

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
# As a module, which is kept compiled; a script is not.
_ENTER = "import sys; sys.path.append(sys.argv[1]); import enter; enter.main()"
_ENTER_SECONDS = 30.0

# By user: the socket and the pid of the process that enters sandboxes, which those that are forked from here use too;
# and why that cannot be done on this host.
_READY: dict[int, tuple[socket.socket, int]] = {}
_REFUSED: dict[int, str] = {}


@dataclass
class Supervisor:
    """A supervisor's process, with the pipes to it. `ended` is its pidfd."""

    ended: int
    requests: IO[bytes]
    replies: IO[bytes]
    errors: IO[bytes]
    reap: Callable[[], object]
    closed: bool = False

    @property
    def pid(self) -> int:
        """Its pid; -1 when it is no more."""
        fields = Path(f"/proc/self/fdinfo/{self.ended}").read_text().split()
        return int(fields[fields.index("Pid:") + 1])

    def over(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or does so within that time."""
        return self.closed or bool(select.select([self.ended], [], [], seconds)[0])

    def kill(self) -> None:
        """End it, and with it what it runs."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.ended, signal.SIGKILL)

    def close(self, seconds: float) -> None:
        """Let it end itself and everything inside, or kill it after that time."""
        if self.closed:
            return
        for pipe in (self.requests, self.replies, self.errors):
            pipe.close()
        if not self.over(seconds):
            self.kill()
            self.over(seconds)
        self.reap()
        self.closed = True
        os.close(self.ended)


def started(backend: Backend, spec: Spec) -> Supervisor:
    """A supervisor that starts inside, on the task's Python, and confines itself."""
    spec = with_script(spec, _SUPERVISOR)
    argv = confined(backend, spec, _SUPERVISOR, "isolated" if backend.isolated else "host")
    process = backend.start(spec, argv, {"LANG": "C.UTF-8"})
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return Supervisor(os.pidfd_open(process.pid), process.stdin, process.stdout, process.stderr, process.wait)


def entered(
    program: str, options: int, joins: Sequence[int], group: Path | None, config: Mapping[str, object]
) -> Supervisor | None:
    """A supervisor taken into a new sandbox of bubblewrap's; None where this host does not let anybody in.

    `options` is the descriptor from which bubblewrap reads them. Raises InfraError where it fails.
    """
    user = os.getuid()
    if user in _REFUSED:
        return None
    stood = user in _READY
    os.lseek(options, 0, os.SEEK_SET)
    request = {
        "bwrap": program,
        "group": str(group or ""),
        "cores": sorted(os.sched_getaffinity(0)),
        "confine": config,
    }
    told, tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    told.settimeout(_ENTER_SECONDS)
    inside_requests, requests = os.pipe()
    replies, inside_replies = os.pipe()
    errors, inside_errors = os.pipe()
    pipes = os.fdopen(requests, "wb", 0), os.fdopen(replies, "rb", 0), os.fdopen(errors, "rb", 0)
    inside = (inside_requests, inside_replies, inside_errors)
    try:
        with tell:
            _ask(user, marshal.dumps(request, 2), [*inside, tell.fileno(), options, *joins])
    except OSError as error:
        _REFUSED[user] = str(error)
    finally:
        for descriptor in inside:
            os.close(descriptor)
    said, ended = b"", list[int]()
    with told, suppress(OSError):
        said, ended, _, _ = socket.recv_fds(told, 1 << 12, 1, socket.MSG_CMSG_CLOEXEC)
    if ended:
        return Supervisor(ended[0], *pipes, reap=lambda: None)
    why = pipes[2].read() if said == b"walls" else b""
    for pipe in pipes:
        pipe.close()
    if said == b"walls":
        raise unexpected_end("bubblewrap", why)
    if stood and not said and user not in _REFUSED:  # somebody has killed it
        _let_go(user)
        return entered(program, options, joins, group, config)
    _REFUSED.setdefault(user, said.decode(errors="replace"))
    return None


def unexpected_end(name: str, said: bytes) -> InfraError:
    """The error of a sandbox that ended, with the last line that it said."""
    last = (said.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    return InfraError("spawn", f"The {name} sandbox ended unexpectedly ({last}).", "Run `omniperf doctor`.")


def _ask(user: int, request: bytes, descriptors: list[int]) -> None:
    """Send a request to the user's process, a new one where it is gone. Raises OSError."""
    if user in _READY:
        channel, _ = _READY[user]
        try:
            socket.send_fds(channel, [request], descriptors)
        except OSError:
            _let_go(user)
        else:
            return
    channel, _ = _READY.setdefault(user, _ready())
    socket.send_fds(channel, [request], descriptors)


def _let_go(user: int) -> None:
    """Use the user's process no longer."""
    channel, pid = _READY.pop(user)
    channel.close()
    with suppress(ChildProcessError):  # it was started by whom this was forked from
        os.waitpid(pid, os.WNOHANG)


def _ready() -> tuple[socket.socket, int]:
    """Start the process that enters sandboxes. It ends when nobody holds its socket. Raises OSError."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0)
    with its:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _ENTER, str(Path(__file__).parent)],
            {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            file_actions=[(os.POSIX_SPAWN_DUP2, its.fileno(), 0), null, (os.POSIX_SPAWN_DUP2, 1, 2)],
            setsid=True,
            setsigmask=(),
        )
    return ours, pid
