"""The gateway as the harness sees it: a process of its own, which shares no interpreter lock with what is timed.

There is one for a run or a sweep. Its parent starts it; attempts, also in other processes, come to it by what they have
inherited, each with a connection of its own, and all that an attempt has there goes when that connection does.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from omniperf.errors import InfraError, UsageError
from omniperf.gateway.backoff import FIRST_WAIT, SILENCE
from omniperf.gateway.shared import Shared
from omniperf.gateway.tokens import Tokens
from omniperf.results.redact import keyless, learn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from omniperf.gateway.shapes import Provider
    from omniperf.tasks.schema import Limits

_ANSWER_SECONDS = 30.0  # within which the gateway has started and answers
_LOOK_SECONDS = 0.02
_STARTS = 5


@dataclass(frozen=True)
class Upstream:
    """Where an API is, and the key to it.

    The URL is as the API's SDK takes it: without /v1 for `anthropic`, with it for `openai`.
    """

    base_url: str
    key: str


@dataclass(frozen=True)
class Spent:
    """What one attempt has used.

    `usd` is None once a call was made whose price is not known; `models` are those that said they answered; `steps` are
    tool calls in the replies; `waited` are seconds for which a provider had to be waited for. `stopped` names the limit
    for which a call was refused or cut, as BudgetExhaustedError does, or is empty. `failure` is what the last call came
    to, where it failed for good; its kind is one of an InfraError's.
    """

    tokens: Tokens
    usd: float | None
    models: tuple[str, ...]
    exchanges: int
    steps: int
    waited: float
    stopped: str
    failure: InfraError | None


class Entrance:
    """The way in to the gateway, for attempts: of this process, or of one that has inherited the two descriptors.

    What is sent through the first is a connection, in one piece whoever sends beside it; the second is what they share.
    """

    def __init__(self, way: socket.socket, shared: Shared) -> None:
        self._way, self.shared = way, shared

    @classmethod
    def inherited(cls, descriptors: Sequence[int]) -> Entrance:
        """The entrance that another process has passed on; not to be passed on by accident from here."""
        way, shared = descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return cls(socket.socket(fileno=way), Shared(shared))

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a process must inherit to have this entrance."""
        return self._way.fileno(), self.shared.fileno()

    def admit(
        self, listener: socket.socket, limits: Limits, folder: Path | None, upstreams: Mapping[Provider, Upstream],
        prices: str = "", *, replay: Path | None = None,
    ) -> Admission:  # fmt: skip
        """Let an attempt ask through a listening TCP socket, of whichever network namespace. It begins now.

        Its exchanges are written to `folder`, where there is one. With `replay`, a file of exchanges, it is answered
        from that, and no upstream is asked. The caller may close its own copy of the socket. It is over when the
        admission is closed, or this process ends. Raises UsageError where the file is no recording or the prices are
        none, InfraError where there is no gateway.
        """
        token = secrets.token_urlsafe(24)
        for secret in (token, *(upstream.key for upstream in upstreams.values())):
            learn(secret)
        asked = {
            "token": token, "limits": limits.model_dump(), "folder": folder and str(folder), "prices": prices,
            "upstreams": {name: {"base_url": each.base_url, "key": each.key} for name, each in upstreams.items()},
            "replay": replay and str(replay),
        }  # fmt: skip
        connection = self._connected()
        try:
            _ask(connection, asked, listener)
        except BaseException:
            connection.close()
            raise
        return Admission(connection, token)

    def _connected(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._way, [b"\n"], [theirs.fileno()])
        ours.settimeout(_ANSWER_SECONDS)
        return ours


class Gateway(Entrance):
    """The one gateway of a run or sweep, or of a single question: a context manager, and the entrance itself.

    Its process starts when somebody asks to be admitted, and again where it has died. It ends with this one, however
    that ends: its standard input ends then.
    """

    def __init__(self, *, silence: float = SILENCE, first_wait: float = FIRST_WAIT) -> None:
        # Both ends stay open here, so that who comes while no process serves waits for the next one.
        way, self._served = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(way, Shared())
        self._options = str(silence), str(first_wait)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def idle(self) -> bool:
        """Whether no process serves: then who wants to be admitted makes this readable, for `select`."""
        return self._process is None or self._process.poll() is not None

    def fileno(self) -> int:
        """The descriptor on which those wait who want to be admitted."""
        return self._served.fileno()

    def serve(self) -> None:
        """Start the process, unless it runs. Raises InfraError where it has died too often."""
        if not self.idle:
            return
        if self._starts == _STARTS:
            text = f"The gateway has ended {_STARTS} times."
            raise InfraError("spawn", text, "See what it wrote to standard error, then go on with `omniperf resume`.")
        self._starts += 1
        self._end()
        passed = [self._served.fileno(), self.shared.fileno()]
        command = [sys.executable, "-P", "-m", "omniperf.gateway.server", *map(str, passed), *self._options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=passed, env=_environment(),
            start_new_session=True,  # an interrupt is for the harness, which still asks what was spent
        )  # fmt: skip

    def _connected(self) -> socket.socket:
        connection, deadline = super()._connected(), time.monotonic() + _ANSWER_SECONDS
        try:  # one that has just died may look alive, so see that it is taken
            while select.select([self], [], [], 0)[0] and time.monotonic() < deadline:
                self.serve()
                assert self._process is not None
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LOOK_SECONDS)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """End the gateway, and with it every call under way. Closing twice is fine."""
        self._way.close()
        self._served.close()
        self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Admission:
    """One attempt's right to ask. `token` is what its client holds as the key; nobody else takes it."""

    def __init__(self, connection: socket.socket, token: str) -> None:
        self._connection, self.token = connection, token
        self._last: Spent | None = None

    def spent(self) -> Spent:
        """What was used until now. Raises InfraError where the gateway is gone."""
        return self._last or _spent(_ask(self._connection, {}))

    def close(self) -> Spent:
        """Stop listening, end the calls under way, and say what was used in all. Closing twice is fine."""
        if self._last is None:
            try:
                self._last = _spent(_ask(self._connection, {"close": True}))
            finally:
                self._connection.close()
        return self._last


def _ask(
    connection: socket.socket, message: Mapping[str, object], passed: socket.socket | None = None
) -> dict[str, Any]:
    """Tell the gateway something; its answer. Raises InfraError where it is gone."""
    data, line = json.dumps(message).encode() + b"\n", b""
    try:
        sent = socket.send_fds(connection, [data], [passed.fileno()] if passed else [])
        connection.sendall(data[sent:])
        while not line.endswith(b"\n"):
            if not (more := connection.recv(1 << 16)):
                break
            line += more
    except OSError:
        line = b""
    if not line.endswith(b"\n"):
        raise InfraError("spawn", "The gateway has ended.", "Run again; see what it wrote to standard error.")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise UsageError(answer["error"], answer["remedy"])
    return answer


def _spent(answer: dict[str, Any]) -> Spent:
    failure = answer["failure"]
    return Spent(
        tokens=Tokens(**answer["tokens"]),
        usd=answer["usd"],
        models=tuple(answer["models"]),
        exchanges=answer["exchanges"],
        steps=answer["steps"],
        waited=answer["waited"],
        stopped=answer["stopped"],
        failure=InfraError(failure["kind"], failure["message"], failure["remedy"]) if failure else None,
    )


def _environment() -> dict[str, str]:
    """The gateway's environment: no key, and this package where it is."""
    environment = keyless()
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    return environment
