"""From an attempt's client to the model's server and back: the key put in, the bytes passed on as they come, counted.

What is passed on is never held back for what is done with it: events are read for their usage after they are sent.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from httpx2 import create_ssl_context

from omniperf.gateway.attempt import UNWRITTEN, Attempt
from omniperf.gateway.backoff import Pause, as_infra, gives_up
from omniperf.gateway.budget import Budget, BudgetExhaustedError, Held
from omniperf.gateway.client import Client
from omniperf.gateway.failures import CallError, from_report
from omniperf.gateway.hosted import asked_of, asks_hosted, refused, without_hosted
from omniperf.gateway.meter import Meter
from omniperf.gateway.recording import difference, for_its_commands, parsed
from omniperf.gateway.route import route_to
from omniperf.gateway.shapes import FREE, METERED, provider_of, refusal, spent_status
from omniperf.gateway.tokens import BYTES_PER_TOKEN, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from omniperf.errors import InfraError
    from omniperf.gateway.client import Response
    from omniperf.gateway.http import Headers, Reply, Request
    from omniperf.gateway.prices import PriceFile
    from omniperf.gateway.process import Upstream
    from omniperf.gateway.recording import Exchange
    from omniperf.gateway.route import Route
    from omniperf.gateway.shapes import Provider
    from omniperf.gateway.shared import Shared
    from omniperf.tasks.schema import Limits

USUAL_OUTPUT = 16_384  # tokens that are reserved for a streamed reply, which is cut where it passes a limit
_LIMITS = ("max_tokens", "max_output_tokens", "max_completion_tokens")
_NOT_FORWARDED = {
    b"host", b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"content-length", b"accept-encoding", b"expect", b"cookie",
    b"authorization", b"x-api-key",
}  # fmt: skip
# A wait that a server asks for is the gateway's: a client would wait on past any limit, in its attempt's minutes.
_NOT_RETURNED = _NOT_FORWARDED | {
    b"content-encoding", b"set-cookie", b"date", b"server", b"retry-after", b"retry-after-ms",
}  # fmt: skip
_RECORDED = ("content-type", "x-should-retry", "request-id", "x-request-id")
_VARIABLES = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}


@dataclass
class _Exchange:
    """One exchange under way, and what is recorded of it."""

    n: int
    path: str
    provider: Provider
    request: Request
    asked: dict[str, Any]
    body: bytes  # that is passed on
    removed: list[str] = field(default_factory=list)  # hosted tools of the request, which are not passed on
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    reply: bytearray = field(default_factory=bytearray)
    meter: Meter | None = None
    error: str = ""
    whole: bool = False  # the client got all of the reply
    waited: list[float] = field(default_factory=list)
    held: Held = field(default_factory=Held)
    under_way: bool = False  # the latest try's request was sent, and no error has come back
    lost: int = 0  # tries that were sent and came to no reply
    tokens: Tokens = field(default_factory=Tokens)  # that were charged
    estimated: bool = False
    usd: float | None = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> str:
        return str(self.asked.get("model") or "")

    @property
    def sent(self) -> int:
        """Tokens of the request, estimated on the safe side."""
        return len(self.request.body) // BYTES_PER_TOKEN + 1

    @property
    def output(self) -> int:
        """Tokens that are reserved for the reply."""
        limits = (self.asked.get(name) for name in _LIMITS)
        most = next((limit for limit in limits if isinstance(limit, int) and limit > 0), USUAL_OUTPUT)
        replies = self.asked.get("n") if METERED.get(self.path) == "chat" else 1
        most = min(most, USUAL_OUTPUT) if self.asked.get("stream") is True else most
        return most * replies if isinstance(replies, int) and replies > 0 else most

    def count(self, tokens: Tokens, usd: float | None) -> None:
        """Add what was charged."""
        self.tokens += tokens
        self.usd = None if self.usd is None or usd is None else self.usd + usd

    def sent_whole(self) -> None:
        """Take note that a try's request was sent."""
        self.under_way = True


class Proxy:
    """The way to all upstreams. Attempts have in common the pauses that a server asks for, and a sweep's USD."""

    def __init__(self, shared: Shared, silence: float, first_wait: float) -> None:
        self.shared, self._silence, self._first_wait = shared, silence, first_wait
        self._trusted = create_ssl_context()
        self._trusted.set_alpn_protocols(["http/1.1"])
        self._writer = ThreadPoolExecutor(1)

    def attempt(
        self, token: str, limits: Limits, upstreams: Mapping[Provider, Upstream], folder: Path | None,
        prices: PriceFile, replay: list[Exchange] | None,
    ) -> Attempt:  # fmt: skip
        """A new attempt, which begins now."""
        client = Client(self._trusted, self._silence)
        return Attempt(token, Budget(limits, self.shared), upstreams, folder, prices, replay, client, self._writer)

    async def answer(self, attempt: Attempt, request: Request, reply: Reply) -> None:
        """Answer one request of an attempt's client."""
        path = request.target.partition("?")[0]
        provider = provider_of(path, anthropic_style=bool(request.header(b"anthropic-version")))
        if request.method == "HEAD" and path == "/":
            await reply.whole(200, [], b"")
        elif not holds_token(request, attempt.token):
            await reply.whole(*refusal(provider, 401, "invalid key: the gateway takes the attempt's own token alone"))
        elif path in METERED and request.method == "POST":
            await self._exchange(attempt, request, reply, path, provider)
        elif request.method in FREE.get(path, ()):
            await self._free(attempt, request, reply, path, provider)
        else:
            await reply.whole(*refusal(provider, 404, f"the gateway does not serve {request.method} {path}"))

    async def _free(self, attempt: Attempt, request: Request, reply: Reply, path: str, provider: Provider) -> None:
        """What costs nothing is passed on, within the attempt's time, and is neither counted nor recorded."""
        if attempt.replay is not None or provider not in attempt.upstreams:
            await reply.whole(*refusal(provider, 404, f"nothing here serves {path}"))
            return
        body, _, said = _checked(request.body)[1:] if request.method == "POST" else (b"", [], "")
        if said:
            await reply.whole(*refusal(provider, 400, said))
            return
        exchange = _Exchange(0, path, provider, request, {}, body)
        try:
            async with attempt.timed():
                await self._forward(attempt, exchange, reply)
        except (CallError, BudgetExhaustedError) as error:
            if not reply.begun:
                await reply.whole(*refusal(provider, 502, str(error)))

    async def _exchange(self, attempt: Attempt, request: Request, reply: Reply, path: str, provider: Provider) -> None:
        asked, body, removed, said = _checked(request.body)
        if said:
            await reply.whole(*refusal(provider, 400, said))
            return
        await attempt.recorded(but=UNWRITTEN)
        attempt.exchanges += 1
        exchange = _Exchange(attempt.exchanges, path, provider, request, asked, body, removed)
        exchange.meter = Meter(METERED[path], streamed=exchange.asked.get("stream") is True)
        try:
            if attempt.replay is not None:
                await self._again(attempt, attempt.replay, exchange, reply)
            else:
                await self._paid(attempt, exchange, reply)
        except BudgetExhaustedError as error:
            attempt.stopped = attempt.stopped or error.limit
            exchange.error = str(error)
            await self._refuse(exchange, reply, spent_status(provider), str(error))
        except CallError as error:
            exchange.error = str(error)
            attempt.failure = _failure(error, exchange)
            final = attempt.replay is not None  # what differs once will not be the same when it is tried again
            await self._refuse(exchange, reply, spent_status(provider) if final else 502, str(error))
        except asyncio.CancelledError:
            exchange.error = exchange.error or "the client hung up"
            raise
        finally:
            self._settle(attempt, exchange)

    async def _paid(self, attempt: Attempt, exchange: _Exchange, reply: Reply) -> None:
        """Pass an exchange on. Raises BudgetExhaustedError and CallError."""
        budget = attempt.budget
        attempt.check()
        if exchange.provider not in attempt.upstreams:
            raise CallError("protocol", f"this gateway has no {exchange.provider} server")
        price = attempt.dearest(exchange.model, exchange.sent, exchange.output)
        with budget.holding(exchange.sent, exchange.output, price) as exchange.held:
            try:
                async with attempt.timed():
                    await self._forward(attempt, exchange, reply)
            finally:
                self._charge(attempt, exchange)

    async def _forward(self, attempt: Attempt, exchange: _Exchange, reply: Reply) -> None:
        """Pass the request on, and what comes back. Raises CallError where nothing came back."""
        response, data = await self._asked(attempt, exchange)
        try:
            secret = attempt.upstreams[exchange.provider].key.encode()
            failed = response.status >= 400
            headers = [
                (name, value) for name, value in response.headers if name not in _NOT_RETURNED and secret not in value
            ]
            told = response.told()
            exchange.status = response.status
            exchange.headers = {name: told[name] for name in _RECORDED if name in told}
            if not data:
                await reply.begin(response.status, headers)
            while data:
                shown = data.replace(secret, b"***") if failed else data
                if reply.begun:
                    await reply.send(shown)
                else:  # in one go, which wakes the client once
                    await reply.begin(response.status, headers, shown)
                exchange.reply += shown
                if exchange.meter and not failed:
                    exchange.meter.feed(data)
                    self._cut_at_limit(attempt, exchange)
                data = await response.read()
            await reply.end()
            exchange.whole = True
        finally:
            response.close()

    def _cut_at_limit(self, attempt: Attempt, exchange: _Exchange) -> None:
        """Raise BudgetExhaustedError where a reply that is still coming has passed what was left."""
        assert exchange.meter is not None
        tokens, _ = exchange.meter.tokens(exchange.sent)
        price = attempt.dearest(exchange.model, tokens.sent, tokens.output)
        if limit := attempt.budget.grow(exchange.held, tokens, price):
            self._stop(attempt, limit, "was passed in the middle of a reply")

    def _stop(self, attempt: Attempt, limit: str, said: str) -> NoReturn:
        limits = attempt.budget.limits
        raise BudgetExhaustedError(limit, limits.tokens if limit == "tokens" else limits.usd, said=said)

    def _lose(self, attempt: Attempt, exchange: _Exchange) -> None:
        """Charge a try that was sent whole and came to no reply: its input, estimated, for its server has read it."""
        exchange.lost += 1
        exchange.count(Tokens(exchange.sent), attempt.charge(Tokens(exchange.sent), exchange.model, "", 0))

    async def _asked(self, attempt: Attempt, exchange: _Exchange) -> tuple[Response, bytes]:
        """Make the call until it is answered or will not be; the response and the first bytes of its body.

        A response with an error is an answer where it is the last try's. Raises CallError where there is none.
        """
        budget, upstream = attempt.budget, attempt.upstreams[exchange.provider]
        pause = Pause(self.shared, exchange.provider, upstream.base_url, self._first_wait)
        call = _call(upstream, exchange)
        tried = 0
        while True:
            tried += 1
            if (left := pause.left) > 0:
                began = time.monotonic()
                try:
                    await attempt.wait(left)
                finally:
                    exchange.waited.append(round(time.monotonic() - began, 3))
            began = time.monotonic()
            response: Response | None = None
            exchange.under_way = False
            try:
                response = await attempt.client.ask(*call, exchange.body, exchange.sent_whole)
                if response.status < 400:
                    data = await response.read()
                    pause.succeeded()
                    return response, data
                exchange.under_way = False
                data = await _rest(response)
                error = _reported(response, data)
            except BaseException as problem:
                if exchange.meter and exchange.under_way:
                    self._lose(attempt, exchange)
                if response is not None:
                    response.close()
                response = None
                if not isinstance(problem, CallError):
                    raise
                error = problem
            wait = pause.failed(began, error.after) if error.retry else 0.0
            if gives_up(error, tried, wait, time.monotonic() + budget.seconds_left):
                if response is None:
                    raise error
                if exchange.meter:  # what is free decides nothing, and no success would take it back
                    attempt.failure = _failure(error, exchange)
                exchange.error = str(error)
                return response, data
            if limit := budget.passed():
                self._stop(attempt, limit, "could be passed by one more try")

    async def _again(self, attempt: Attempt, recorded: list[Exchange], exchange: _Exchange, reply: Reply) -> None:
        """Answer from the recording. Raises CallError where the request is not the recorded one."""
        attempt.budget.check_time()
        if exchange.n > len(recorded):
            raise CallError("protocol", f"exchange {exchange.n}: the recording has {len(recorded)} alone")
        was = recorded[exchange.n - 1]
        apart = f"/: recorded {was.path}, seen {exchange.path}" if was.path != exchange.path else ""
        seen = parsed(exchange.request.body)
        if apart := apart or difference(was.request, seen):
            raise CallError("protocol", f"exchange {exchange.n} differs from the recorded one at {apart}")
        again = for_its_commands(was.reply, was.request, seen)
        exchange.status, exchange.headers, exchange.reply = was.status, dict(was.headers), bytearray(again)
        exchange.error = str(was.line.get("error") or "")
        attempt.stopped = attempt.stopped or str(was.line.get("stopped") or "")
        assert exchange.meter is not None
        exchange.meter.feed(again)
        for _ in range(int(was.line.get("lost") or 0)):
            self._lose(attempt, exchange)
        self._charge(attempt, exchange)
        headers = [(name.encode(), value.encode()) for name, value in was.headers]
        await reply.begin(was.status or 502, headers)
        await reply.send(again)
        if was.line.get("whole"):
            await reply.end()
            exchange.whole = True

    async def _refuse(self, exchange: _Exchange, reply: Reply, status: int, message: str) -> None:
        """Answer with an error of ours; a reply that has begun is broken off instead."""
        if reply.begun:
            return
        status, headers, body = refusal(exchange.provider, status, message)
        exchange.status, exchange.reply = status, bytearray(body)
        exchange.headers = {name.decode(): value.decode() for name, value in headers}
        await reply.whole(status, headers, body)
        exchange.whole = True

    def _charge(self, attempt: Attempt, exchange: _Exchange) -> None:
        """Charge what has come of a reply, however it ended, before what was reserved for it is free again."""
        meter = exchange.meter
        assert meter is not None
        if 200 <= exchange.status < 400:
            meter.end(exchange.headers.get("content-type", ""))
            tokens, exchange.estimated = meter.tokens(exchange.sent)
            exchange.count(tokens, attempt.charge(tokens, exchange.model, meter.model, meter.calls))

    def _settle(self, attempt: Attempt, exchange: _Exchange) -> None:
        """Say what an exchange came to, and record it."""
        meter = exchange.meter
        assert meter is not None
        if 200 <= exchange.status < 400 and not exchange.error:
            exchange.error = str(meter.error or "")
            attempt.failure = _failure(meter.error, exchange) if meter.error else None
        used: dict[str, object] = {}
        if exchange.tokens.total:
            estimated = exchange.estimated or exchange.lost > 0
            used = {"model": meter.model, "tokens": exchange.tokens.__dict__, "estimated": estimated}
            used |= {"usd": exchange.usd, "lost": exchange.lost}
            attempt.stopped = attempt.stopped or attempt.budget.passed(held=False)
        told = {"seconds": round(time.monotonic() - exchange.began, 3), "waited": exchange.waited}
        told |= {"removed": exchange.removed} if exchange.removed else {}
        told |= {"whole": exchange.whole, "error": exchange.error, "stopped": attempt.stopped}
        attempt.record(
            exchange.n, exchange.path, exchange.request.body, exchange.status, exchange.headers, bytes(exchange.reply),
            **told, **used,
        )  # fmt: skip


def _call(upstream: Upstream, exchange: _Exchange) -> tuple[Route, str, str, Headers]:
    """Whom to ask, and for what, with the key put in."""
    request = exchange.request
    dropped = {name.strip().lower().encode() for name in request.header(b"connection").split(",")}
    headers = [(name, value) for name, value in request.headers if name not in _NOT_FORWARDED and name not in dropped]
    headers.append((b"accept-encoding", b"identity"))
    key = upstream.key.encode()
    if request.header(b"x-api-key"):
        headers.append((b"x-api-key", key))
    if request.header(b"authorization"):
        headers.append((b"authorization", b"Bearer " + key))
    target = request.target if exchange.provider == "anthropic" else request.target.removeprefix("/v1")
    return route_to(upstream.base_url), request.method, target, headers


def holds_token(request: Request, token: str) -> bool:
    """Whether the request brings the attempt's token, and no other key."""
    scheme, _, bearer = request.header(b"authorization").partition(" ")
    keys = [key for key in (request.header(b"x-api-key"), bearer if scheme.lower() == "bearer" else scheme) if key]
    return bool(keys) and all(hmac.compare_digest(key.strip().encode(), token.encode()) for key in keys)


def _checked(body: bytes) -> tuple[dict[str, Any], bytes, list[str], str]:
    """What a body asks, what of it is passed on, what was taken out, and why nothing is, "" where it is."""
    try:
        asked = asked_of(body)
    except ValueError as error:
        said = f"the gateway takes a body that is one JSON object in UTF-8, without a content-encoding ({error})"
        return {}, b"", [], said
    if said := refused(asked):
        return asked, b"", [], said
    left, removed = without_hosted(body) if asks_hosted(asked) else (body, [])
    return asked, left, removed, ""


async def _rest(response: Response) -> bytes:
    """The rest of a response."""
    parts = []
    while part := await response.read():
        parts.append(part)
    return b"".join(parts)


def _reported(response: Response, data: bytes) -> CallError:
    body = parsed(data)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    said = data.decode("utf-8", "replace")
    return from_report(inner, status=response.status, fallback=said, headers=response.told())


def _failure(error: CallError, exchange: _Exchange) -> InfraError:
    return as_infra(error, exchange.provider, exchange.model, _VARIABLES[exchange.provider])
