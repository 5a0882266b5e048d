"""One bounded back-off for every provider: what may pass is waited for, what will not is said at once."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, TypeVar

from omniperf.errors import InfraError
from omniperf.gateway.failures import CallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.gateway.failures import FailureKind

T = TypeVar("T")
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds; doubled from try to try
LONGEST_ASKED = 120.0  # a server that asks for a longer pause is not waited for
SILENCE = 600.0  # seconds without a byte after which a connection counts as dead
CONNECTING = 10.0  # seconds

_REMEDIES: dict[FailureKind, str] = {
    "auth": "Check the key in {variable}.",
    "quota": "Raise the account's limit, or use another key in {variable}.",
    "throttled": "Try again later, or with fewer attempts at once.",
    "network": "Check the network and --base-url, or try again later.",
    "protocol": "Check --model, --base-url and --api.",
    "context": "Use a model with a longer context.",
}


def patiently(call: Callable[[], T], failed: Callable[[CallError, float], None], deadline: float = math.inf) -> T:
    """Make a call, again where that may help, TRIES times in all, and not where the wait would outlast `deadline`.

    `failed` is told of each failure and of the seconds until the next try (0: there is none), and the last is raised.
    """
    for tried in range(1, TRIES + 1):
        try:
            return call()
        except CallError as error:
            wait = _wait(tried, error.after, FIRST_WAIT)
            last = gives_up(error, tried, wait, deadline)
            failed(error, 0.0 if last else wait)
            if last:
                raise
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def gives_up(error: CallError, tried: int, wait: float, deadline: float) -> bool:
    """Whether a call that has been tried so often is not tried again, which would be after so many seconds."""
    return not error.retry or tried >= TRIES or wait > LONGEST_ASKED or time.monotonic() + wait >= deadline


class SharedPause:
    """The back-off that all calls to one upstream share: one throttled call holds back the others too.

    Failures of calls that had begun before the last pause did do not lengthen it, however many they are.
    """

    def __init__(self, first_wait: float = FIRST_WAIT) -> None:
        self._first_wait = first_wait
        self._failed = 0  # times in a row
        self._since = self._until = 0.0

    @property
    def left(self) -> float:
        """Seconds for which no call is made, longer by up to a quarter, so that not all begin at once."""
        return max(0.0, self._until - time.monotonic()) * random.uniform(1, 1.25)  # noqa: S311 - no secret

    def failed(self, began: float, asked: float | None) -> float:
        """A call that began then, by the monotonic clock, failed; returns the seconds until the next may be made."""
        if began >= self._since:
            self._failed += 1
            self._since = time.monotonic()
        wait = _wait(self._failed, asked, self._first_wait)
        if wait <= LONGEST_ASKED:
            self._until = max(self._until, time.monotonic() + wait)
        return wait

    def succeeded(self) -> None:
        """A call was answered."""
        self._failed = 0


def _wait(tried: int, asked: float | None, first: float) -> float:
    """Seconds before the next try: what the server asked for, and in any case a jittered, doubling pause."""
    own: float = min(first * 2 ** (tried - 1), LONGEST_WAIT) * random.uniform(0.5, 1)  # noqa: S311 - no secret
    return max(own, asked or 0.0)


def as_infra(error: CallError, provider: str, model: str, variable: str) -> InfraError:
    """What a call that failed for good means for the attempt."""
    kind = "protocol" if error.kind == "context" else error.kind
    did = {
        "auth": "refused the key",
        "quota": "has no quota left for this key",
        "throttled": "kept throttling",
        "network": "could not be reached or failed",
        "protocol": "did not accept the call",
    }[kind]
    said = " ".join(str(error).split()).rstrip(".")
    return InfraError(
        kind, f"{provider} {did} (model {model}): {said}.", _REMEDIES[error.kind].format(variable=variable)
    )
