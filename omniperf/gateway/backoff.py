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
            wait = _wait(tried, error.after)
            last = not error.retry or tried == TRIES or wait > LONGEST_ASKED or time.monotonic() + wait >= deadline
            failed(error, 0.0 if last else wait)
            if last:
                raise
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _wait(tried: int, asked: float | None) -> float:
    """Seconds before the next try: what the server asked for, and in any case a jittered, doubling pause."""
    own: float = min(FIRST_WAIT * 2 ** (tried - 1), LONGEST_WAIT) * random.uniform(0.5, 1)  # noqa: S311 - no secret
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
