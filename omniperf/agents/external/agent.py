"""What all external agents are: a client, found on this host, that works in the sandbox through the gateway."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from omniperf.agents.models import PATIENCE, AnthropicAgent, OpenAIAgent
from omniperf.errors import UsageError
from omniperf.gateway.backoff import as_infra
from omniperf.gateway.failures import CallError
from omniperf.gateway.process import Upstream
from omniperf.results.events import Event
from omniperf.tasks.schema import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from omniperf.agents.external.channel import Channel
    from omniperf.agents.external.find import Client
    from omniperf.agents.external.stream import Reader
    from omniperf.agents.protocol import Outcome, Session
    from omniperf.gateway.process import Entrance
    from omniperf.gateway.shapes import Provider
    from omniperf.results.events import Emit
    from omniperf.sandbox.spec import Spec
    from omniperf.tasks.schema import Task

HOME = "/home/agent"

TOLD = """
## The harness's commands
Where this text names the tools `benchmark`, `test` and `profile`, run these shell commands in the checkout instead:
- `omniperf-bench` screens the checkout as it is now against base (`omniperf-bench --against commit`: against your last
  commit that was benchmarked so). It takes up to some minutes. It is screening, not a verdict.
- `omniperf-test` runs the task's tests.
- `omniperf-profile` profiles one run of the workload.
Commit what helps with `git commit`: the best commit that was benchmarked is kept, should what comes later be worse.
There is no `finish`: you are done when you end your turn. What is in the checkout then counts, committed or not.
"""


TOLD_MCP = "The MCP server `omniperf` has them as its tools `benchmark`, `test` and `profile` too.\n"
TOOL_PATIENCE = 7200
"""Seconds that a client may wait for a tool, others' turns included; as long as the commands wait."""


@dataclass(frozen=True)
class Ask:
    """What a client is given. `url` is the gateway's, without a path; `token` is good there and nowhere else."""

    url: str
    token: str
    model: str
    api: str
    prompt: str
    command_seconds: float
    folder: str = "/workspace"
    server: tuple[str, ...] = ()  # what starts the harness's MCP server inside; empty where there is none


@dataclass(frozen=True)
class Launch:
    """How a client is started. `watch` is a file of JSON that it writes anew after each step."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str]
    stdin: str = ""
    watch: str = ""


class ExternalAgent:
    """A client as an agent. A subclass says how to find it, how to start it, and how to read it."""

    version = "1"
    summary = ""
    needs_walls = True
    name: ClassVar[str] = ""
    program: ClassVar[str] = ""
    apis: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ("model", "base_url", "prices")
    speaks_mcp: ClassVar[bool] = False
    reader: Callable[[], Reader]

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._server: Client | None = None

    def find(self) -> Client:
        """The client on this host. Raises InfraError (missing_dep)."""
        raise NotImplementedError

    def launch(self, client: Client, ask: Ask) -> Launch:
        """How to start it."""
        raise NotImplementedError

    def api(self, options: Mapping[str, str]) -> str:
        """The API that it speaks to its model: as asked, else by the model's name. Raises UsageError."""
        asked = options.get("api", "")
        if asked and asked not in self.apis:
            raise UsageError(f"This agent speaks no API {asked!r}.", f"It takes --api {' or '.join(self.apis)}.")
        claude = "anthropic" in self.apis and options.get("model", "").startswith("claude")
        return asked or ("anthropic" if claude else next(api for api in (*self.apis[1:], *self.apis)))

    def check(self, options: Mapping[str, str]) -> None:
        """Check client, model, key and options without a call. Raises UsageError or InfraError (missing_dep)."""
        self._behind(options).check(self._wire(options))
        self.find()

    def ready(self, options: Mapping[str, str], emit: Emit, gateway: Entrance) -> None:
        """Prove key, model and quota with the smallest call there is, by the client's way. Raises InfraError."""
        client = self.find()
        emit(Event("preflight", f"{self.program} {client.version}", {}))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            upstreams, prices = self._upstreams(options), options.get("prices", "")
            admission = gateway.admit(listener, Limits(minutes=PATIENCE / 60), None, upstreams, prices)
        behind = self._behind(options)
        provider = behind.through(self._wire(options), url, admission.token)
        emit(Event("preflight", f"asking {provider.name} for {provider.model}", {}))
        try:
            behind.prove(provider, PATIENCE)
        except CallError as error:  # the gateway has tried again already, and knows best why a call failed
            known = None if error.kind == "protocol" else admission.close().failure
            raise known or as_infra(error, provider.name, provider.model, behind.key_variable) from None
        finally:
            provider.close()
            admission.close()

    @contextmanager
    def equipped(self, spec: Spec, task: Task) -> Iterator[Spec]:
        """The sandbox with the client in it, and the way out of it, for one attempt."""
        from omniperf.agents.external.channel import Channel
        from omniperf.agents.external.mcp import mcp_server

        (tree,) = (mount.source for mount in spec.mounts if mount.target == "/workspace")
        self._server = mcp_server(task, tree) if self.speaks_mcp else None
        with Channel(self.find(), self._server) as self._channel:
            yield self._channel.equip(spec)

    def solve(self, session: Session) -> Outcome:
        """Let the client work until it ends or a limit is reached."""
        return self._work(session, session.options, self._upstreams(session.options))

    def again(self, session: Session, options: Mapping[str, str], exchanges: Path) -> Outcome:
        """Let the client work again as in an attempt that had these options, its model being that recording."""
        return self._work(session, options, {}, exchanges)

    def _work(
        self, session: Session, options: Mapping[str, str], upstreams: Mapping[Provider, Upstream],
        replay: Path | None = None,
    ) -> Outcome:  # fmt: skip
        from omniperf.agents.external.runner import Run

        channel, sandbox, client = self._channel, session.sandbox, self.find()
        assert channel is not None
        assert sandbox is not None
        assert session.gateway is not None
        self.version = f"{type(self).version} ({self.program} {client.version})"
        api = self.api(options)
        with ExitStack() as stack:
            listener, port = channel.open(sandbox)
            with listener:
                admission = session.gateway.admit(
                    listener, session.budget.limits, session.folder, upstreams, options.get("prices", ""), replay=replay
                )
            stack.callback(admission.close)
            server = self._server.argv if self._server else ()
            prompt = f"{session.prompt.rstrip()}\n{TOLD}{TOLD_MCP if server else ''}"
            url = f"http://127.0.0.1:{port}"
            limit = session.budget.limits.command_seconds
            ask = Ask(url, admission.token, options["model"], api, prompt, limit, server=server)
            launch = self.launch(client, ask)
            profile = f'export PATH="{sandbox.env["PATH"]}"\n'  # a login shell would put the system's there
            launch = replace(launch, files={f"{HOME}/.profile": profile, **launch.files})
            about = {"client": self.program, "version": client.version, "model": options["model"], "argv": launch.argv}
            return Run(session, channel, admission, self.reader()).run(launch, {**about, "prompt": prompt})

    def _wire(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options of the built-in agent that speaks the same API."""
        api = self.api(options)
        kept = {name: value for name, value in options.items() if name in ("model", "base_url", "prices")}
        return kept if api == "anthropic" else {**kept, "api": api}

    def _upstreams(self, options: Mapping[str, str]) -> dict[Provider, Upstream]:
        behind = self._behind(options)
        side: Provider = "anthropic" if self.api(options) == "anthropic" else "openai"
        return {side: Upstream(behind.base_url(options), behind.key())}

    def _behind(self, options: Mapping[str, str]) -> AnthropicAgent | OpenAIAgent:
        return (AnthropicAgent if self.api(options) == "anthropic" else OpenAIAgent)(self.name)


class PythonAgent(ExternalAgent):
    """A client that is a Python package in an environment of its own, and that speaks more than one API."""

    package: ClassVar[str] = ""
    least: ClassVar[tuple[int, ...]] = ()
    install: ClassVar[str] = ""
    options = (*ExternalAgent.options, "api")

    def find(self) -> Client:
        """In its own environment."""
        from omniperf.agents.external.find import python_program

        return python_program(self.program, self.package, self.least, self.install)
