"""What goes wrong between a client and its model, or at a limit: the outcome says which, in bounded time and tries.

What a row expects is what Claude Code 2.1.329 and Codex 0.169.0 were seen to do. Rows that come next run beside the one
that is asked for: most of their time is waiting.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from itertools import chain, repeat
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.external import mcp
from omniperf.gateway.process import Gateway
from omniperf.gateway.tokens import BYTES_PER_TOKEN
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.sweep import run
from tests.agents.conftest import answers_of, listed
from tests.agents.external.conftest import KEY, VERSIONS
from tests.agents.external.test_clients import EDIT, PRICES, SHELL, shell, turns
from tests.agents.loopback import USAGE, Fail, Gone, Loopback, Raw, Say, Step
from tests.clients.install import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from omniperf.results.schema import Result
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from tests.agents.loopback import Call

pytestmark = pytest.mark.xdist_group("faults of clients")  # each row begins those that come next

MODELS = {"claude-code": "claude-opus-5-5", "codex": "gpt-5.5"}
AT_ONCE = 5
HOUR = 3600
SOON = 60.0  # seconds
LONG = "prompt is too long: 300000 tokens > 200000 maximum"
FILTERED = "Output blocked by content filtering policy"
DONE = Say("Done.")


@dataclass(frozen=True)
class Row:
    """What the server does, call by call and the last for ever, and what must come of it."""

    agent: str
    what: str
    script: list[Step]
    kind: str
    infra: str | None = None
    calls: int = 1  # that reach the server
    steps: int = 0  # tool calls that the client shows
    told: tuple[str, ...] = ()  # what is in the results that the model is sent last
    limits: dict[str, float] = field(default_factory=lambda: {"minutes": 2 * SOON / 60})
    skew: float = 0.0  # seconds by which the server's clock is ahead
    verify: bool = True  # what is no patch costs nothing

    def __str__(self) -> str:
        return f"{self.agent}: {self.what}"


def limited(after: str = "") -> Fail:
    return Fail(429, "rate_limit_error", "slow down", {"retry-after": after} if after else {})


def dated(hours: float) -> str:
    return formatdate(time.time() + hours * HOUR, usegmt=True)


def limits(agent: str) -> list[Row]:
    """The rows of a client at a limit, which their names begin with."""
    row = partial(Row, agent, kind="budget")
    busy = turns(agent, *(["true"] * 30))
    kept = turns(agent, EDIT, "omniperf-bench", "git commit -qam faster", "echo worse >> toy/order.py", "true")
    used = [Say("Next.", say.calls, usage=(60_000, 0, 0, 900)) for say in busy]
    slow = [Say("Wait.", (shell(agent, "python3 -c 'import time; time.sleep(90)'"),))]
    return [
        row("USD", busy, limits={"usd": 0.01}),
        row("steps", kept, limits={"steps": 3}, verify=False),
        row("minutes", slow, limits={"minutes": 0.25}),
        row("tokens", busy, limits={"tokens": 1000}),
        row("tokens, some used", used, limits={"tokens": 200_000}),
    ]


def faults(agent: str) -> list[Row]:
    """The rows of a client that its model's server fails. The gateway makes six tries, the client often two of them."""
    claude = agent == "claude-code"
    tool, name, _ = SHELL[agent]
    infra, done = partial(Row, agent, kind="infra_error"), partial(Row, agent, kind="finished")
    refused = partial(Row, agent, kind="agent_error")
    begun: tuple[tuple[str, Any], ...] = (
        ("message_start", {"type": "message_start", "message": {"role": "assistant", "content": []}}),
        ("response.created", {"type": "response.created", "response": {}}),
    )

    def asks(*given: object, **more: str) -> Say:
        return Say("I look.", tuple((tool, each) for each in given), **more)

    one, two = {name: "echo one"}, {name: "python3 -c 'import time; time.sleep(1); print(\"two\")'"}
    # Both run both. Claude Code shows its model one answer to an id, the first that there is, Codex both.
    both = {"steps": 2, "told": ("one",) if claude else ("one", "two")}
    # Codex shows no call of a tool that there is not, or with arguments that it cannot read.
    wrong = {"calls": 2, "steps": 1 if claude else 0}
    unread = ("could not be parsed as JSON", "`command` is missing") if claude else ("EOF while", "invalid type")
    return [
        infra("401", [Fail(401, "authentication_error", "invalid x-api-key")], infra="auth", calls=2),
        infra("402", [Fail(402, "insufficient_quota", "none left")], infra="quota", calls=1 if claude else 2),
        infra("403", [Fail(403, "permission_error", "not allowed")], infra="auth", calls=1 if claude else 2),
        infra("404 model", [Fail(404, "not_found_error", "model: no such model")], infra="protocol", calls=2),
        infra("429", [limited()], infra="throttled", calls=12 if claude else 6),
        infra("429 for an hour", [limited("3600")], infra="throttled", calls=2 if claude else 1),
        done("429 once, with retry-after", [limited("1"), DONE], calls=2),
        done("retry-after in the past", [limited(dated(-24)), DONE], calls=2),
        infra("retry-after in the far future", [limited(dated(24))], infra="throttled", calls=2 if claude else 1),
        done("clock ahead", [limited(dated(5)), DONE], calls=2, skew=5 * HOUR),
        done("clock behind", [limited(dated(-5)), DONE], calls=2, skew=-5 * HOUR),
        infra("500", [Fail(500, "api_error", "internal")], infra="network", calls=12),
        infra("529", [Fail(529, "overloaded_error", "overloaded")], infra="throttled", calls=12),
        infra("refused", [Gone(down=True)], infra="network"),
        # Claude Code asks a third time, for a reply that is not streamed.
        infra("reset", [Gone()], infra="network", calls=3 if claude else 2),
        infra("truncated", [Say("half", cut=True)], infra="network", calls=3 if claude else 2),
        done("ended early, once", [Raw(begun), DONE], calls=2),
        infra("invalid JSON", [Raw(tuple((event, "{not json") for event, _ in begun))], calls=2,
              infra="protocol" if claude else "network"),  # Codex says of it that it ended
        infra("error in the stream", [Say("half", trouble="overloaded_error")], infra="throttled",
              calls=4 if claude else 2),
        Row(agent, "stall", [Say("half", stall=60)], "budget", limits={"minutes": 0.2}),
        refused("too long", [Fail(400, "context_length_exceeded", LONG)]),
        done("empty content", [Say()], calls=2 if claude else 1),
        # To Codex a refusal is a message as any other.
        (refused if claude else done)("refusal", [Say("I must not.", stop="refusal")], calls=2 if claude else 1),
        refused("content filter", [Fail(400, message=FILTERED)]),
        refused("content filter in the stream", [Say("half", stop="refusal" if claude else "filter")], calls=2),
        done("unknown tool", [Say("", (("fly", {}),)), DONE], told=("fly",), **wrong),
        done("arguments not JSON", [asks(f'{{"{name}": "l'), DONE], told=unread[:1], **wrong),
        done("arguments not an object", [asks("[1]"), DONE], told=unread[1:], **wrong),
        done("one id twice", [asks(one, two, id="same"), DONE], calls=2, **both),
        done("one id again", [asks(one, id="same"), asks(two, id="same"), DONE], calls=3, **both),
    ]  # fmt: skip


class Attempts:
    """Attempts of rows, some at a time. The first proves their task, so it runs alone."""

    def __init__(self, pool: ProcessPoolExecutor, task: Task, settings: Settings) -> None:
        self._pool, self._task, self._settings = pool, task, settings
        self._begun: dict[str, tuple[Future[Result], Loopback]] = {}

    def begin(self, row: Row) -> tuple[Future[Result], Loopback]:
        """A row's attempt, under way at the latest from now on, and its server."""
        if str(row) not in self._begun:
            server = Loopback()
            server.play(chain(row.script, repeat(row.script[-1])))
            server.skew = row.skew
            url = server.url if row.agent == "claude-code" else f"{server.url}/v1"
            options = {"model": MODELS[row.agent], "base_url": url}
            spec = AttemptSpec("", row.agent, 0, options, limits=row.limits, verify=row.verify)
            path = f"{program(VERSIONS[row.agent]).parent}:{os.environ['PATH']}"
            result = self._pool.submit(attempted, self._task, spec, self._settings, path)
            self._begun[str(row)] = result, server
            if len(self._begun) == 1:
                result.result()
        return self._begun[str(row)]

    def close(self) -> None:
        for result, server in self._begun.values():
            result.cancel()
            server.close()


def hasten() -> None:
    """Short pauses of the gateway, which doubles them from try to try; and no MCP server, which takes long to start."""
    run.Gateway = partial(Gateway, first_wait=0.0005)
    mcp.mcp_server = lambda *_: None


def attempted(task: Task, spec: AttemptSpec, settings: Settings, path: str) -> Result:
    """One attempt, in a process of its own."""
    os.environ.update(PATH=path, ANTHROPIC_API_KEY=KEY, OPENAI_API_KEY=KEY)
    return run.run_task(task, spec, 1, settings, ignore)[1][0]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn"), hasten) as processes:
        yield processes


@pytest.fixture(scope="module")
def begun() -> Iterator[list[Attempts]]:
    found: list[Attempts] = []
    yield found
    for attempts in found:
        attempts.close()


Ended = tuple["Result", Loopback]


@pytest.fixture
def ended(
    row: Row, begun: list[Attempts], pool: ProcessPoolExecutor, make_task: Callable[..., Task], settings: Settings,
    bubblewrap: None, request: pytest.FixtureRequest,
) -> Ended:  # fmt: skip
    """What the row's attempt came to, and the server that it asked. The next rows are under way too."""
    if program(VERSIONS[row.agent]) is None:
        pytest.skip(f"{row.agent} is not installed: python -m tests.clients.install {VERSIONS[row.agent]}")
    if not begun:
        begun.append(Attempts(pool, make_task("measure: {max_minutes: 0.5}"), settings))
    rows = [item.callspec.params["row"] for item in request.session.items if item.module is request.module]
    for ahead in rows[rows.index(row) :][: 8 * AT_ONCE]:
        if program(VERSIONS[ahead.agent]):
            begun[0].begin(ahead)
    result, server = begun[0].begin(row)
    return result.result(), server


def each(rows: Callable[[str], list[Row]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", [row for agent in MODELS for row in rows(agent)], ids=str)


@each(limits)
def test_a_limit_stops_a_client(row: Row, ended: Ended) -> None:
    result, server = ended
    usage, calls = result.usage, len(server.calls)
    assert result.outcome.kind == "budget"
    assert row.what.split(",")[0] in result.outcome.detail
    match row.what:
        case "steps":
            assert usage.steps == 3
            assert result.patch is not None
            assert (result.patch.added, result.patch.removed) == (1, 5)  # the edit, and nothing worse
        case "minutes":
            assert usage.wall_seconds < SOON
        case "tokens, some used":
            assert usage.steps == calls > 0
            assert (usage.input_tokens, usage.output_tokens) == (60_000 * calls, 900 * calls)
            assert usage.input_tokens + usage.output_tokens <= 200_000
        case "USD" | "tokens":
            assert (usage.usd, usage.input_tokens, calls) == (0, 0, 0)


@each(faults)
def test_a_fault(row: Row, ended: Ended) -> None:
    result, server = ended
    usage, calls = result.usage, server.calls
    assert (result.outcome.kind, result.outcome.infra_kind) == (row.kind, row.infra), result.outcome
    assert (len(calls), usage.steps) == (row.calls, row.steps)
    assert usage.wall_seconds < SOON  # no client waits for its limit
    assert result.verdict.class_ == ("unverified" if row.infra else "no_patch")
    told = [text for _, text in answers_of(listed(calls[-1].body))]
    assert [part in text for part, text in zip(row.told, told, strict=True)] == [True] * len(told), told

    replies = [said(row, call, at) for at, call in enumerate(calls)]
    fresh, read, written, output = (sum(counts) for counts in zip((0, 0, 0, 0), *filter(None, replies), strict=True))
    unsaid = [call for call, reply in zip(calls, replies, strict=True) if reply is None]
    sent = sum(int(call.headers["content-length"]) // BYTES_PER_TOKEN + 1 for call in unsaid)
    paid = (usage.input_tokens - read - written, read, written, usage.output_tokens)
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.output_tokens) == (read, written, output)
    assert sent <= paid[0] - fresh <= 1.01 * sent  # hosted tools, which the gateway takes out, are counted too
    rates = PRICES[MODELS[row.agent]]
    assert usage.usd == pytest.approx(sum(count * rate for count, rate in zip(paid, rates, strict=True)) / 1e6)


def said(row: Row, call: Call, at: int) -> tuple[int, int, int, int] | None:
    """What the reply to a call said that it used; None where it broke off before it did."""
    match row.script[min(at, len(row.script) - 1)]:
        case Fail():
            return 0, 0, 0, 0
        case Say(cut=False, stall=0.0, trouble=""):
            return USAGE
        case Say() if row.agent == "claude-code":  # a stream begins with it, with one token of output
            return (*USAGE[:3], 1) if call.body.get("stream") else USAGE
    return None
