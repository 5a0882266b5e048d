"""The agents `anthropic` and `openai`: which model, which API, whose key; the work itself is the loop's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from omniperf.agents.loop import Loop
from omniperf.errors import UsageError
from omniperf.gateway.backoff import as_infra, patiently
from omniperf.gateway.failures import CallError
from omniperf.gateway.prices import load_prices
from omniperf.results.events import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.protocol import Outcome, Session
    from omniperf.agents.providers.protocol import Provider, Reply
    from omniperf.results.events import Emit

MAX_OUTPUT = 16_384  # tokens of one reply
_PATIENCE = 30.0  # seconds that the first, smallest call may take, waits included
# What Chat answers where the output of that call is too little for a model's thoughts.
_NO_ROOM = "model output limit was reached"


class _ModelAgent:
    """An agent with a model. The key comes from the environment, stays in this process, and goes into no file."""

    version = "1"
    summary = ""
    options: ClassVar[tuple[str, ...]] = ("model", "base_url", "prices", "max_output")
    apis: ClassVar[tuple[str, ...]] = ()
    key_variable: ClassVar[str] = ""
    least_output: ClassVar[int] = 1

    def __init__(self, called: str = "") -> None:
        """`called` is the agent that a user named, where that is another one."""
        self.called = called

    def solve(self, session: Session) -> Outcome:
        """Let the model work until it finishes or a limit is reached."""
        options, prices = session.options, load_prices(session.options.get("prices", ""))
        with Loop(self._provider(options), session, prices, _max_output(options), self.key_variable) as loop:
            return loop.run()

    def check(self, options: Mapping[str, str]) -> None:
        """Check what can be checked without a call. Raises UsageError."""
        load_prices(options.get("prices", ""))
        _max_output(options)
        self._provider(options).close()

    def ready(self, options: Mapping[str, str], emit: Emit) -> None:
        """Prove key and model with the smallest call there is. Raises InfraError."""
        provider = self._provider(options)
        emit(Event("preflight", f"asking {provider.name} for {provider.model}", {}))
        talk = provider.begin("Answer with one word.", ())
        talk.add([provider.say("Ready?")])

        def waiting(error: CallError, seconds: float) -> None:
            emit(Event("preflight", f"{error.kind}, waiting {seconds:.0f} s", {"transient": True}))

        def ask() -> Reply:
            return provider.send(talk, self.least_output, deadline - time.monotonic())

        deadline = time.monotonic() + _PATIENCE
        try:
            patiently(ask, waiting, deadline)
        except CallError as error:
            if _NO_ROOM in str(error):  # the model was there, and had begun
                return
            raise as_infra(error, provider.name, provider.model, self.key_variable) from None
        finally:
            provider.close()

    def _provider(self, options: Mapping[str, str]) -> Provider:
        name = self.called or type(self).__name__.removesuffix("Agent").lower()
        if not (model := options.get("model", "")):
            raise UsageError(f"The agent {name!r} needs a model.", "Name one with --model.")
        if (api := options.get("api", "")) and api not in self.apis:
            known = " or ".join(self.apis)
            raise UsageError(f"The agent {name!r} speaks no API {api!r}.", f"It takes --api {known}." if known else "")
        base_url = options.get("base_url") or None
        if base_url is not None:
            _check_url(base_url)
        if not (key := self.key()):
            raise UsageError(f"The agent {name!r} needs a key in {self.key_variable}.", "Set that variable.")
        if not key.isascii() or not key.isprintable():
            raise UsageError(f"{self.key_variable} holds characters that no key has.", "Set it again.")
        return self._open(api, model, key, base_url)

    def key(self) -> str:
        """The key, "" where there is none."""
        return os.environ.get(self.key_variable, "").strip()

    def _open(self, api: str, model: str, key: str, base_url: str | None) -> Provider:
        raise NotImplementedError


class AnthropicAgent(_ModelAgent):
    """A model of Anthropic's."""

    summary = "a model behind Anthropic's Messages API (--model, --base-url)"
    key_variable = "ANTHROPIC_API_KEY"

    def _open(self, api: str, model: str, key: str, base_url: str | None) -> Provider:  # noqa: ARG002 - it has one API
        from omniperf.agents.providers.anthropic import AnthropicMessages

        return AnthropicMessages(model, key, base_url)


class OpenAIAgent(_ModelAgent):
    """A model of OpenAI's, or of any server that speaks one of its two APIs."""

    summary = "a model behind OpenAI's Responses API, or any Chat Completions server (--model, --base-url, --api)"
    options = (*_ModelAgent.options, "api")
    apis = ("responses", "chat")
    key_variable = "OPENAI_API_KEY"
    least_output = 16

    def _open(self, api: str, model: str, key: str, base_url: str | None) -> Provider:
        if api == "chat":
            from omniperf.agents.providers.openai_chat import OpenAIChat

            return OpenAIChat(model, key, base_url)
        from omniperf.agents.providers.openai_responses import OpenAIResponses

        return OpenAIResponses(model, key, base_url)


def _check_url(text: str) -> None:
    """Raise UsageError unless a client takes the URL, which may hold a password by mistake and is not repeated."""
    import httpx2

    try:
        parts = urlsplit(text)
        _ = parts.port, httpx2.URL(text)  # each of them refuses some of what the other lets pass
    except (ValueError, httpx2.InvalidURL):
        raise UsageError("--base-url is not a valid URL.", "Write it as http(s)://HOST[:PORT][/PATH].") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise UsageError("--base-url must be an http(s) URL without a user or password.", "Keys go into variables.")


def _max_output(options: Mapping[str, str]) -> int:
    text = options.get("max_output", str(MAX_OUTPUT))
    if not text.isdecimal() or not 16 <= int(text) <= 1_000_000:
        raise UsageError(f"--max-output must be a number of tokens from 16 to 1,000,000, not {text!r}.")
    return int(text)
