"""Between the harness and a sandbox without a network: a folder with two sockets, bound into it.

Through one comes the launcher that starts the client; it hands out a listening socket of the sandbox's own loopback.
Through the other the client's commands ask for `benchmark`, `test` and `profile`.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock, Semaphore, Thread
from typing import TYPE_CHECKING, Any, Self

from omniperf.agents.providers.protocol import ToolCall
from omniperf.errors import InfraError
from omniperf.sandbox.spec import Mount
from omniperf.sandbox.system import host_packages, in_folders, system_folders

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from omniperf.agents.external.find import Client
    from omniperf.agents.providers.protocol import ToolResult
    from omniperf.sandbox.spec import Spec
    from omniperf.sandbox.standing import Completed, StandingSandbox

_INSIDE = Path(__file__).with_name("inside")
_PLACE = "/omniperf/channel"
_LAUNCH = "/omniperf/launch.py"
_COMMANDS = ("omniperf-bench", "omniperf-test", "omniperf-profile")
_START_SECONDS = 30.0
_LONGEST = 86_400.0  # seconds of the client's command; its real limit is the runner's
_AT_ONCE = 8  # requests for tools that are held; the next wait to be let in
_REQUEST = 1 << 16  # bytes of a request for a tool
_PAUSE = 0.1
_MORE_MEMORY = 3 * 2**30  # for the client itself, beside what the task's commands may take


class Channel:
    """The folder and its sockets. A context manager; leaving it closes everything."""

    def __init__(self, client: Client, server: Client | None = None) -> None:
        """`server` is shown beside the client, which starts it itself."""
        self._shown = [client] if server is None else [client, server]
        self._private = Path(tempfile.mkdtemp(prefix="omniperf-"))  # no other user of the host comes to the sockets
        self._folder = self._private / "channel"
        self._folder.mkdir()
        self._folder.chmod(0o755)  # the sandbox's user is another
        (self._folder / "empty").mkdir()
        self._control, self._tools = (self._listening(name) for name in ("control", "tools"))
        self._connection: socket.socket | None = None
        self._thread: Thread | None = None
        self._turn = Lock()  # of the one tool at work
        self._room = Semaphore(_AT_ONCE)
        self._ending = self._closed = False
        self.busy = False  # whether a tool is at work
        self.completed: Completed | None = None  # how the launcher ended, once it has
        self.error: BaseException | None = None  # what went wrong in a thread, and ends the attempt

    def _listening(self, name: str) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:  # a socket's path has 107 characters at most, which a deep TMPDIR passes
            server.bind(f"/proc/self/fd/{folder}/{name}")
        finally:
            os.close(folder)
        (self._folder / name).chmod(0o777)  # the sandbox's user is another
        server.listen(64)
        return server

    def equip(self, spec: Spec) -> Spec:
        """The sandbox with the client, the launcher, the channel, and the harness's commands."""
        mounts = [Mount(self._folder, _PLACE), Mount(_INSIDE / "launch.py", _LAUNCH)]
        mounts += [Mount(_INSIDE / "ask", f"/omniperf/bin/{name}") for name in _COMMANDS]
        mounts += [mount for client in self._shown for mount in client.mounts]
        for prefix in {client.prefix for client in self._shown if client.prefix} - {spec.interpreter}:
            if in_folders(prefix, system_folders(network=False)):
                continue
            hidden = [Mount(self._folder / "empty", packages) for packages in host_packages(prefix)]
            mounts += [Mount(prefix, str(prefix)), *hidden]
        memory = spec.allowance.memory + _MORE_MEMORY
        return replace(spec, mounts=(*spec.mounts, *mounts), allowance=replace(spec.allowance, memory=memory))

    def open(self, sandbox: StandingSandbox) -> tuple[socket.socket, int]:
        """Start the launcher; the socket that listens inside, and its port. Raises InfraError (spawn)."""

        def stand() -> None:
            try:
                self.completed = sandbox.run(f"/env/bin/python -I {_LAUNCH} {_PLACE}/control", _LONGEST)
            except BaseException as error:
                self.error = error

        self._thread = Thread(target=stand, name="client", daemon=True)
        self._thread.start()
        self._control.settimeout(_START_SECONDS)
        try:
            self._connection, _ = self._control.accept()
            self._connection.settimeout(_START_SECONDS)
            said, descriptors, _, _ = socket.recv_fds(self._connection, 64, 1)
            return socket.socket(fileno=descriptors[0]), int(said)
        except (OSError, ValueError, IndexError) as error:
            why = self.completed.output.strip() if self.completed else ""
            text = f"The client's launcher did not start in the sandbox ({why or error})."
            raise InfraError("spawn", text, "Run `omniperf doctor`.") from None
        finally:
            self._control.close()
            (self._folder / "control").unlink()

    def launch(self, config: dict[str, Any], descriptors: list[int]) -> None:
        """Have the client started with these descriptors: input, output, errors, and where a watched file is sent."""
        assert self._connection is not None
        data = json.dumps(config).encode()
        head = b"%d\n" % len(data)
        socket.send_fds(self._connection, [head], descriptors)
        self._connection.sendall(data)

    def serve(self, use: Callable[[ToolCall], ToolResult]) -> None:
        """Answer the client's commands with that, one after the other, some waiting in threads of their own.

        What `use` raises is `error` from then on. Nobody's request runs once the asker is gone or the attempt ends.
        """

        def answer(connection: socket.socket) -> None:
            try:
                with connection, suppress(OSError):
                    connection.settimeout(_START_SECONDS)
                    connection.sendall(json.dumps(self._answered(connection, use)).encode() + b"\n")
            finally:
                self._room.release()

        def accept() -> None:
            while not self._closed:
                self._room.acquire()
                try:
                    connection, _ = self._tools.accept()
                    Thread(target=answer, args=(connection,), name="tool", daemon=True).start()
                except (OSError, RuntimeError):  # closed; or too many descriptors or threads, for now
                    self._room.release()
                    time.sleep(_PAUSE)

        Thread(target=accept, name="tools", daemon=True).start()

    def _answered(self, connection: socket.socket, use: Callable[[ToolCall], ToolResult]) -> dict[str, object]:
        with connection.makefile("rb") as requests:
            line = requests.readline(_REQUEST)
        try:
            asked = json.loads(line)
            name, arguments = str(asked["tool"]), json.dumps(asked["arguments"])
            if name not in ("benchmark", "test", "profile"):
                raise ValueError(f"there is no tool {name!r} here")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return {"text": f"not a request: {error}", "failed": True}
        with self._turn:
            if self._ending or self.error is not None:
                return {"text": "the attempt has ended", "failed": True}
            if _hung_up(connection):
                return {}
            self.busy = True
            try:
                result = use(ToolCall("", name, arguments))
            except BaseException as error:
                self.error = error
                return {"text": f"the attempt ends: {error}", "failed": True}
            finally:
                self.busy = False
        return {"text": result.text, "failed": result.failed}

    @property
    def running(self) -> bool:
        """Whether anything of the client is left."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Ask the client to end; after a grace everything inside is killed. No further tool begins."""
        self._ending = True
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)

    def exit_code(self) -> int | None:
        """The client's exit status, 128 and the signal of one that died; None where nobody could say."""
        assert self._connection is not None
        with suppress(OSError, ValueError):
            self._connection.settimeout(0)
            return int(self._connection.recv(64).split()[1])
        return None

    def join(self, seconds: float) -> bool:
        """Wait until nothing of the client is left; whether that came in time."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def settle(self) -> None:
        """Wait for the tool that is still at work: it uses what is about to be taken away."""
        self._ending = True
        with self._turn:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for server in (self._control, self._tools, self._connection):
            if server is not None:
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                server.close()
        shutil.rmtree(self._private, ignore_errors=True)


def _hung_up(connection: socket.socket) -> bool:
    """Whether the asker is gone, who says nothing after his request."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
