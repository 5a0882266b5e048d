"""The agents `anthropic` and `openai`: which model, which API, whose key; the work itself is the loop's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from omniperf.agents.loop import Loop, Manner
from omniperf.agents.providers.tape import Tape
from omniperf.errors import UsageError
from omniperf.gateway import backoff
from omniperf.gateway.backoff import Pause, as_infra, patiently
from omniperf.gateway.failures import CallError
from omniperf.gateway.prices import load_prices
from omniperf.results.events import Event
from omniperf.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.agents.protocol import Outcome, Session
    from omniperf.agents.providers.protocol import Provider
    from omniperf.agents.providers.tape import Playback
    from omniperf.gateway.process import Entrance
    from omniperf.results.events import Emit

MAX_OUTPUT = 16_384  # tokens of one reply
EFFORTS = ("low", "medium", "high")
PATIENCE = 30.0  # seconds that the first, smallest call may take, waits included
# What Chat answers where the output of that call is too little for a model's thoughts.
_NO_ROOM = "model output limit was reached"


class ModelAgent:
    """An agent with a model. The key comes from the environment, stays in this process, and goes into no file."""

    version = "1"
    summary = ""
    resumes = forgets = True
    options: ClassVar[tuple[str, ...]] = ("model", "base_url", "prices", "max_output", "context", "effort")
    apis: ClassVar[tuple[str, ...]] = ()
    key_variable: ClassVar[str] = ""
    url_setting: ClassVar[str] = ""
    public_url: ClassVar[str] = ""
    least_output: ClassVar[int] = 1

    def __init__(self, called: str = "") -> None:
        """`called` is the agent that a user named, where that is another one."""
        self.called = called

    def solve(self, session: Session) -> Outcome:
        """Let the model work until it finishes or a limit is reached."""
        options, prices = session.options, load_prices(session.options.get("prices", ""))
        provider = self._provider(options)
        provider.wire.tape = Tape(session.folder)
        pause = self._pause(provider, options, session.gateway)
        with Loop(provider, session, prices, _manner(options), self.key_variable, pause) as loop:
            return loop.run()

    def again(self, session: Session, options: Mapping[str, str], playback: Playback) -> Outcome:
        """Run a recorded attempt again, which had these options: no key, no server. Raises DivergedError."""
        provider = self._open(
            options.get("api", ""), options["model"], "no-key-is-used", "http://127.0.0.1:9", options.get("effort", "")
        )
        provider.wire.tape = playback
        prices = load_prices(options.get("prices", ""))
        with Loop(provider, session, prices, _manner(options), self.key_variable) as loop:
            return loop.run()

    def check(self, options: Mapping[str, str]) -> None:
        """Check what can be checked without a call. Raises UsageError."""
        load_prices(options.get("prices", ""))
        _manner(options)
        self._provider(options).close()

    def ready(self, options: Mapping[str, str], emit: Emit, gateway: Entrance | None = None) -> None:
        """Prove key and model with the smallest call there is. Raises InfraError."""
        provider = self._provider(options)
        emit(Event("preflight", f"asking {provider.name} for {provider.model}", {}))

        def waiting(error: CallError, seconds: float) -> None:
            emit(Event("preflight", f"{error.kind}, waiting {seconds:.0f} s", {"transient": True}))

        def ask() -> None:
            self.prove(provider, deadline - time.monotonic())

        deadline = time.monotonic() + PATIENCE
        try:
            patiently(ask, waiting, deadline, self._pause(provider, options, gateway))
        except CallError as error:
            raise as_infra(error, provider.name, provider.model, self.key_variable) from None
        finally:
            provider.close()

    def prove(self, provider: Provider, seconds: float) -> None:
        """Make the smallest call there is. Raises CallError."""
        talk = provider.begin("Answer with one word.", ())
        talk.add([provider.say("Ready?")])
        try:
            provider.send(talk, self.least_output, seconds)
        except CallError as error:
            if _NO_ROOM not in str(error):  # else the model was there, and had begun
                raise

    def through(self, options: Mapping[str, str], url: str, token: str) -> Provider:
        """The model as a client of the gateway asks it; the URL is the gateway's, without a path."""
        base_url = url if self.key_variable == AnthropicAgent.key_variable else f"{url}/v1"
        return self._open(options.get("api", ""), options["model"], token, base_url, "")

    def _pause(self, provider: Provider, options: Mapping[str, str], gateway: Entrance | None) -> Pause | None:
        """What all attempts of the run wait for together."""
        if gateway is None:
            return None
        return Pause(gateway.shared, provider.name, self.base_url(options), backoff.FIRST_WAIT)

    def _provider(self, options: Mapping[str, str]) -> Provider:
        name = self.called or type(self).__name__.removesuffix("Agent").lower()
        if not (model := options.get("model", "")):
            raise UsageError(f"The agent {name!r} needs a model.", "Name one with --model.")
        if (api := options.get("api", "")) and api not in self.apis:
            known = " or ".join(self.apis)
            raise UsageError(f"The agent {name!r} speaks no API {api!r}.", f"It takes --api {known}." if known else "")
        base_url = self.base_url(options)
        _check_url(base_url)
        if (effort := options.get("effort", "")) not in ("", *EFFORTS):
            raise UsageError(f"--effort must be {', '.join(EFFORTS[:-1])} or {EFFORTS[-1]}, not {effort!r}.")
        if not (key := self.key()):
            raise UsageError(f"The agent {name!r} needs a key in {self.key_variable}.", "Set that variable.")
        if not key.isascii() or not key.isprintable():
            raise UsageError(f"{self.key_variable} holds characters that no key has.", "Set it again.")
        return self._open(api, model, key, base_url, effort)

    def base_url(self, options: Mapping[str, str]) -> str:
        """Where the model is asked: the option, else the setting, else the provider itself; no SDK's own variable."""
        return options.get("base_url") or getattr(load_settings(), self.url_setting) or self.public_url

    def key(self) -> str:
        """The key, "" where there is none."""
        return os.environ.get(self.key_variable, "").strip()

    def _open(self, api: str, model: str, key: str, base_url: str, effort: str) -> Provider:
        raise NotImplementedError


class AnthropicAgent(ModelAgent):
    """A model of Anthropic's."""

    summary = "a model behind Anthropic's Messages API (--model, --base-url)"
    options = (*ModelAgent.options, "native_tools")
    key_variable = "ANTHROPIC_API_KEY"
    url_setting, public_url = "anthropic_base_url", "https://api.anthropic.com"

    def _open(  # it has one API
        self,
        api: str,  # noqa: ARG002
        model: str,
        key: str,
        base_url: str,
        effort: str,
    ) -> Provider:
        from omniperf.agents.providers.anthropic import AnthropicMessages

        return AnthropicMessages(model, key, base_url, effort)


class OpenAIAgent(ModelAgent):
    """A model of OpenAI's, or of any server that speaks one of its two APIs."""

    summary = "a model behind OpenAI's Responses API, or any Chat Completions server (--model, --base-url, --api)"
    options = (*ModelAgent.options, "api")
    apis = ("responses", "chat")
    key_variable = "OPENAI_API_KEY"
    url_setting, public_url = "openai_base_url", "https://api.openai.com/v1"
    least_output = 16

    def _open(self, api: str, model: str, key: str, base_url: str, effort: str) -> Provider:
        if api == "chat":
            from omniperf.agents.providers.openai_chat import OpenAIChat

            return OpenAIChat(model, key, base_url, effort)
        from omniperf.agents.providers.openai_responses import OpenAIResponses

        return OpenAIResponses(model, key, base_url, effort)


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


def _manner(options: Mapping[str, str]) -> Manner:
    """How the options want the model to be asked. Raises UsageError."""
    most = _tokens(options, "max_output", 16, 1_000_000)
    native = options.get("native_tools", "")
    native = "" if native.lower() in ("0", "false") else native  # as a sweep file says it
    return Manner(most or MAX_OUTPUT, _tokens(options, "context", 1024, 100_000_000), native)


def _tokens(options: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdecimal() or not least <= int(text) <= most:
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(f"{flag} must be a number of tokens from {least:,} to {most:,}, not {text!r}.")
    return int(text)
