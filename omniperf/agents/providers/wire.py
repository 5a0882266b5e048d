"""An SDK's client as the providers use it: prepared bytes out, the events of the reply in as plain data.

The SDK keeps connections, authentication and the decoding of server-sent events. Its typed `create` methods walk the
whole history at every call, so the body goes through its raw `post`; its retries are off, since those of the loop obey
the attempt's budget.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omniperf.agents.providers.failures import from_exception
from omniperf.agents.providers.protocol import CallError, Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omniperf.agents.providers.protocol import Tokens

SILENCE = 600.0  # seconds without a byte after which a connection counts as dead


@dataclass(frozen=True)
class Wire:
    """A client of either SDK (they have one shape), its class of streams, and the class of its errors."""

    client: Any
    stream_class: Any
    error_class: type[Exception]
    secret: str

    @contextmanager
    def call(
        self, path: str, body: bytes, seconds: float, spent: Callable[[], Tokens | None]
    ) -> Iterator[Iterator[Item]]:
        """Send a body and hand out the events of its reply; `spent` says what a call that fails has used by then.

        Whatever goes wrong in the block is raised as a CallError.
        """
        import httpx2

        try:
            with self.client.post(
                path, cast_to=object, content=body, options={"timeout": min(seconds, SILENCE)},
                stream=True, stream_cls=self.stream_class,
            ) as stream:  # fmt: skip
                yield _before(time.monotonic() + seconds, stream)
        except (self.error_class, httpx2.HTTPError, httpx2.StreamError) as error:
            raise from_exception(error, self.secret, spent()) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            said = f"the reply is not as {path} replies ({type(error).__name__}: {error})".replace(self.secret, "***")
            raise CallError("protocol", said, tokens=spent()) from None

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def _before(deadline: float, stream: Any) -> Iterator[Item]:
    for event in stream:
        if time.monotonic() > deadline:
            raise CallError("network", "the reply took longer than there was time", retry=True)
        if isinstance(event, dict):
            yield event


def cut(tokens: Tokens | None) -> CallError:
    """The stream ended before the reply did."""
    return CallError("network", "the stream of the reply ended in the middle", retry=True, tokens=tokens)
