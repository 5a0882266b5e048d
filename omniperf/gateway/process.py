"""The gateway as the harness sees it: a process of its own, which shares no interpreter lock with what is timed."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from omniperf.errors import InfraError
from omniperf.gateway.backoff import FIRST_WAIT, SILENCE
from omniperf.gateway.tokens import Tokens
from omniperf.results.redact import keyless, learn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from omniperf.gateway.shapes import Provider
    from omniperf.tasks.schema import Limits


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


class Gateway:
    """A gateway: a context manager. It serves the attempts that it admits; an external client's starts one of its own.

    The keys go through its standard input, and end with it.
    """

    def __init__(
        self, upstreams: Mapping[Provider, Upstream], prices: str = "", *, silence: float = SILENCE,
        first_wait: float = FIRST_WAIT,
    ) -> None:  # fmt: skip
        self._lock = Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "omniperf.gateway.server"], stdin=theirs.fileno(), env=_environment(),
                start_new_session=True,  # an interrupt is for the harness, which still asks what was spent
            )  # fmt: skip
        self._socket, self._answers = ours, ours.makefile("rb")
        for upstream in upstreams.values():
            learn(upstream.key)
        given = {name: {"base_url": each.base_url, "key": each.key} for name, each in upstreams.items()}
        self._tell({"upstreams": given, "prices": prices, "silence": silence, "first_wait": first_wait})

    def admit(self, listener: socket.socket, limits: Limits, folder: Path, *, replay: Path | None = None) -> Admission:
        """Let an attempt ask through a listening TCP socket, of whichever network namespace. It begins now.

        With `replay`, a file of exchanges, it is answered from that, and no upstream is asked. The caller may close its
        own copy of the socket. Raises UsageError where the file is no recording.
        """
        token = secrets.token_urlsafe(24)
        learn(token)
        asked = {"admit": token, "limits": limits.model_dump(), "folder": str(folder)}
        self._ask({**asked, "replay": str(replay) if replay else None}, listener)
        return Admission(self, token)

    def _ask(self, message: Mapping[str, object], passed: socket.socket | None = None) -> dict[str, Any]:
        """Tell the gateway something; its answer. Raises InfraError where it is gone."""
        with self._lock:
            try:
                self._tell(message, passed)
                line = self._answers.readline()
            except OSError:
                line = b""
        if not line:
            raise InfraError("spawn", "The gateway has ended.", "Run again; see what it wrote to standard error.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InfraError("protocol", answer["error"])
        return answer

    def _tell(self, message: Mapping[str, object], passed: socket.socket | None = None) -> None:
        data = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(self._socket, [data], [passed.fileno()] if passed else [])
        self._socket.sendall(data[sent:])

    def close(self) -> None:
        """End the gateway, and with it every call under way."""
        self._answers.close()
        self._socket.close()
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

    def __init__(self, gateway: Gateway, token: str) -> None:
        self._gateway, self.token = gateway, token
        self._last: Spent | None = None

    def spent(self) -> Spent:
        """What was used until now. Raises InfraError where the gateway is gone."""
        return self._last or _spent(self._gateway._ask({"spent": self.token}))

    def close(self) -> Spent:
        """Stop listening, end the calls under way, and say what was used in all. Closing twice is fine."""
        if self._last is None:
            self._last = _spent(self._gateway._ask({"close": self.token}))
        return self._last


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
