"""One bounded back-off for every provider: what may pass is waited for, what will not is said at once."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, TypeVar

from omniperf.errors import InfraError
from omniperf.gateway.failures import CallError
from omniperf.gateway.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.gateway.failures import FailureKind

T = TypeVar("T")
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds; doubled from try to try
LONGEST_ASKED = 120.0  # a server that asks for a longer pause is not waited for
SILENCE = 600.0  # seconds without a byte after which a connection counts as dead
CONNECTING = 10.0  # seconds
_NONE = (0, 0.0, 0.0)  # of a server: failures in a row, when the last began to count, until when nobody calls

_REMEDIES: dict[FailureKind, str] = {
    "auth": "Check the key in {variable}.",
    "quota": "Raise the account's limit, or use another key in {variable}.",
    "throttled": "Try again later, or with fewer attempts at once.",
    "network": "Check the network and --base-url, or try again later.",
    "protocol": "Check --model, --base-url and --api.",
    "context": "Use a model with a longer context.",
    "filtered": "Use another model, or another prompt.",
}


def patiently(
    call: Callable[[], T], failed: Callable[[CallError, float], None], deadline: float = math.inf,
    pause: Pause | None = None, wait: Callable[[float], None] | None = None,
) -> T:  # fmt: skip
    """Make a call, again where that may help, TRIES times in all, and not where the wait would outlast `deadline`.

    `failed` is told of each failure and of the seconds until the next try (0: there is none), and the last is raised.
    All that have the same `pause` wait when one of them is to; `wait` is given the seconds
    each time, and sleeps. Where a pause that others began would outlast `deadline`, no call is made: it is raised, as
    throttled where no call had failed before.
    """
    pause = pause or Pause(Shared(), "", "", FIRST_WAIT)
    before: CallError | None = None
    for tried in range(1, TRIES + 1):
        if (left := pause.left) > 0:
            if time.monotonic() + left >= deadline:
                said = f"calls to this server pause for {left:.0f} s more, which is longer than there is time"
                raise before or CallError("throttled", said, retry=True)
            (wait or time.sleep)(left)
        began = time.monotonic()
        try:
            result = call()
        except CallError as error:
            seconds = pause.failed(began, error.after) if error.retry else 0.0
            last = gives_up(error, tried, seconds, deadline)
            failed(error, 0.0 if last else seconds)
            before = error
            if last:
                raise
        else:
            pause.succeeded()
            return result
    raise AssertionError("the last try returns or raises")


def gives_up(error: CallError, tried: int, wait: float, deadline: float) -> bool:
    """Whether a call that has been tried so often is not tried again, which would be after so many seconds."""
    return not error.retry or tried >= TRIES or wait > LONGEST_ASKED or time.monotonic() + wait >= deadline


class Pause:
    """The back-off of all calls to one server: one that is throttled holds back the others too, in every process.

    Failures of calls that had begun before the last pause did do not lengthen it, however many they are.
    """

    def __init__(self, shared: Shared, provider: str, base_url: str, first_wait: float) -> None:
        self._shared, self._first_wait = shared, first_wait
        self._name = f"{provider} {base_url.rstrip('/')}"

    @property
    def left(self) -> float:
        """Seconds for which no call is made, longer by up to a quarter, so that not all begin at once."""
        with self._shared.table() as table:
            until: float = table.get(self._name, _NONE)[2]
        return max(0.0, until - time.monotonic()) * random.uniform(1, 1.25)  # noqa: S311 - no secret

    def failed(self, began: float, asked: float | None) -> float:
        """A call that began then, by the monotonic clock, failed; returns the seconds until the next may be made."""
        with self._shared.table() as table:
            failed, since, until = table.get(self._name, _NONE)
            if began >= since:
                failed, since = failed + 1, time.monotonic()
            wait = _wait(failed, asked, self._first_wait)
            if wait <= LONGEST_ASKED:
                until = max(until, time.monotonic() + wait)
            table[self._name] = failed, since, until
        return wait

    def succeeded(self) -> None:
        """A call was answered."""
        with self._shared.table() as table:
            _, since, until = table.get(self._name, _NONE)
            table[self._name] = 0, since, until


def _wait(failed: int, asked: float | None, first: float) -> float:
    """Seconds before the next try: what the server asked for, and in any case a jittered, doubling pause."""
    own: float = min(first * 2 ** (failed - 1), LONGEST_WAIT) * random.uniform(0.5, 1)  # noqa: S311 - no secret
    return max(own, asked or 0.0)


def as_infra(error: CallError, provider: str, model: str, variable: str) -> InfraError:
    """What a call that failed for good means for the attempt."""
    kind = "protocol" if error.kind in ("context", "filtered") else error.kind
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
