"""The gateway: what passes, what it counts, whom it lets in, what it stops, and what it says when a server fails."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from omniperf.gateway import process
from omniperf.gateway.process import Gateway
from omniperf.gateway.recording import EXCHANGES, load_exchanges
from omniperf.gateway.tokens import Tokens
from omniperf.results.store import read_lines
from tests.agents.loopback import Say
from tests.gateway.conftest import KEYS, SILENCE, Admit, request
from tests.gateway.upstream import PATHS, RESET, Step, Upstream, events, failing, head, streamed

if TYPE_CHECKING:
    from collections.abc import Iterator

APIS = ("messages", "responses", "chat")
HELLO = Say("Hello", (("bash", {"command": "ls"}),))
USED = Tokens(100, 40, 10, 20)  # as the scripted server counts each reply


def whole(api: str) -> Step:
    """A reply that is not streamed."""
    text: dict[str, Any] = {"model": "a-model-2026-11-01"}
    if api == "messages":
        usage = {"input_tokens": 100, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 10}
        text |= {"usage": {**usage, "output_tokens": 20}, "content": [{"type": "tool_use", "name": "bash"}]}
    elif api == "responses":
        details = {"cached_tokens": 40, "cache_write_tokens": 10}
        text["usage"] = {"input_tokens": 150, "input_tokens_details": details, "output_tokens": 20}
        text["output"] = [{"type": "function_call"}]
    else:
        details = {"cached_tokens": 40, "cache_write_tokens": 10}
        text["usage"] = {"prompt_tokens": 150, "prompt_tokens_details": details, "completion_tokens": 20}
        text["choices"] = [{"message": {"tool_calls": [{"id": "1"}]}}]
    return (head(200, "application/json"), json.dumps(text).encode())


@pytest.mark.parametrize("api", APIS)
def test_a_stream_passes_byte_for_byte_with_the_key_put_in_and_is_counted(
    api: str, upstream: Upstream, admit: Admit
) -> None:
    upstream.play(streamed(api, HELLO))
    client = admit()
    reply = client.ask(api)
    assert (reply.status_code, reply.content) == (200, b"".join(events(api, HELLO)))
    key = KEYS["anthropic" if api == "messages" else "openai"]
    assert (key in upstream.got[0].head, client.admission.token.lower() in upstream.got[0].head) == (True, False)
    assert upstream.bodies() == [request(api)]
    spent = client.admission.spent()
    assert (spent.tokens, spent.models, spent.exchanges, spent.steps) == (USED, ("a-model-2026-11-01",), 1, 1)
    assert spent.usd is not None
    assert spent.usd > 0
    assert (spent.stopped, spent.failure) == ("", None)


@pytest.mark.parametrize("api", APIS)
def test_a_reply_that_is_not_streamed_is_counted_too(api: str, upstream: Upstream, admit: Admit) -> None:
    upstream.play(whole(api))
    client = admit()
    assert client.ask(api, stream=False).json()["model"] == "a-model-2026-11-01"
    spent = client.admission.close()
    assert (spent.tokens, spent.models, spent.steps) == (USED, ("a-model-2026-11-01",), 1)


def test_a_chat_that_does_not_ask_for_its_usage_is_estimated(upstream: Upstream, admit: Admit) -> None:
    upstream.play(streamed("chat", Say("x" * 300, usage=None)))
    client = admit()
    client.ask("chat")
    size = len(upstream.got[0].body)
    assert client.admission.spent().tokens == Tokens(size // 3 + 1, output=100)
    assert next(read_lines(client.folder / EXCHANGES))["estimated"] is True


def test_events_are_passed_on_while_the_next_is_not_there_yet(upstream: Upstream, admit: Admit) -> None:
    first, second = b'data: {"type": "ping"}\n\n', b'data: {"type": "pong"}\n\n'
    upstream.play((head(), first, 0.3, second))
    client = admit()
    auth = {"x-api-key": client.admission.token}
    with client.http.stream("POST", client.url + PATHS["messages"], headers=auth, json=request("messages")) as reply:
        chunks = reply.iter_raw()
        assert next(chunks) == first
        between = time.monotonic()
        assert next(chunks) == second
    assert time.monotonic() - between > 0.15


def test_only_the_attempts_own_token_opens_and_only_what_is_served(upstream: Upstream, admit: Admit) -> None:
    one, other = admit(), admit()
    upstream.play(streamed("messages", HELLO))
    for key in ("sk-wrong", other.admission.token, KEYS["anthropic"]):
        refused = one.ask("messages", key=key)
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    assert one.ask("chat", key="x").json()["error"]["code"] == "invalid_api_key"
    both = {"x-api-key": one.admission.token, "authorization": "Bearer sk-other-0123456789"}
    assert one.http.post(one.url + "/v1/messages", headers=both, json={}).status_code == 401
    assert one.http.post(one.url + "/v1/messages", json={}).status_code == 401
    right = {"x-api-key": one.admission.token}
    assert one.http.post(one.url + "/v1/files", headers=right, json={}).status_code == 404
    assert one.http.head(one.url + "/").status_code == 200
    assert upstream.got == []
    assert one.ask("messages").status_code == 200
    assert (one.admission.spent().exchanges, other.admission.spent().exchanges) == (1, 0)
    assert other.admission.spent().tokens == Tokens()


def test_models_are_listed_and_tokens_counted_by_the_server_at_no_cost(upstream: Upstream, admit: Admit) -> None:
    upstream.play(*((head(200, "application/json"), b"{}"),) * 3)
    client = admit(tokens=1)
    auth = {"x-api-key": client.admission.token, "anthropic-version": "2026-10-21"}
    assert client.http.get(client.url + "/v1/models?limit=1", headers=auth).json() == {}
    assert client.http.post(client.url + "/v1/messages/count_tokens", headers=auth, json={}).json() == {}
    bearer = {"authorization": f"Bearer {client.admission.token}"}
    assert client.http.get(client.url + "/v1/models", headers=bearer).json() == {}
    firsts = [got.head.split("\r\n")[0] for got in upstream.got]
    assert firsts == [
        "get /v1/models?limit=1 http/1.1", "post /v1/messages/count_tokens http/1.1", "get /v1/models http/1.1",
    ]  # fmt: skip
    assert [KEYS["openai"] in got.head for got in upstream.got] == [False, False, True]
    assert client.admission.spent().exchanges == 0


def test_what_is_free_may_fail_and_the_attempt_has_not(upstream: Upstream, admit: Admit) -> None:
    upstream.play(*(failing(404, "not_found_error"),) * 2)
    client = admit()
    auth = {"x-api-key": client.admission.token, "anthropic-version": "2026-10-21"}
    assert client.http.post(client.url + "/v1/messages/count_tokens", headers=auth, json={}).status_code == 404
    assert client.http.get(client.url + "/v1/models", headers=auth).status_code == 404
    assert client.admission.spent().failure is None


LIMITS = {"tokens": {"tokens": 1400}, "USD": {"usd": 0.021}, "steps": {"steps": 2}}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_refuses_the_next_call_so_that_clients_take_it_as_final(
    limit: str, api: str, upstream: Upstream, admit: Admit
) -> None:
    upstream.play(*(streamed(api, HELLO),) * 40)
    client = admit(**LIMITS[limit])
    replies = [client.ask(api) for _ in range(40)]
    last = replies[-1]
    assert last.status_code == (403 if api == "messages" else 429)
    kind = last.json()["error"]["type"]
    assert kind == ("permission_error" if api == "messages" else "insufficient_quota")
    assert last.headers["x-should-retry"] == "false"
    assert limit in last.text
    spent = client.admission.spent()
    assert spent.stopped == limit
    assert 0 < len(upstream.got) < 40
    assert (spent.tokens.total <= 1400 or limit != "tokens") and (spent.usd or 0) <= LIMITS["USD"]["usd"]


def test_calls_at_the_same_time_reserve_together(upstream: Upstream, admit: Admit) -> None:
    upstream.play(*((head(), 0.3, *events("chat", HELLO)),) * 8)
    client = admit(tokens=2500)  # two of 1000 and their input
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: client.ask("chat").status_code, range(8)))
    assert statuses == [200, 200] + [429] * 6
    assert client.admission.spent().tokens == USED + USED


def test_a_reply_that_grows_beyond_what_was_reserved_is_cut_where_it_passes_the_limit(
    upstream: Upstream, admit: Admit
) -> None:
    piece = events("chat", Say("x" * 30_000, usage=None))[1]
    upstream.play((head(), *[part for _ in range(200) for part in (piece, 0.01)]))
    client = admit(tokens=40_000)
    with pytest.raises(httpx2.RemoteProtocolError):
        client.ask("chat", max_tokens=1_000_000)
    spent = client.admission.spent()
    assert spent.stopped == "tokens"
    assert 40_000 < spent.tokens.total < 60_000


@pytest.mark.parametrize("limits", [{"tokens": 60_000}, {"usd": 0.6}], ids=["tokens", "USD"])
def test_replies_that_grow_at_the_same_time_share_the_limit(
    limits: dict[str, Any], upstream: Upstream, admit: Admit
) -> None:
    piece = events("chat", Say("x" * 15_000, usage=None))[1]  # 5000 tokens, 0.05 USD
    upstream.play(*((head(), *[part for _ in range(60) for part in (piece, 0.02)]),) * 3)
    client = admit(**limits)

    def ask(_: int) -> None:
        with pytest.raises(httpx2.RemoteProtocolError):
            client.ask("chat", max_tokens=1_000_000 if "tokens" in limits else 100)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, range(3)))
    spent = client.admission.spent()
    assert spent.stopped == ("USD" if "usd" in limits else "tokens")
    assert 60_000 < spent.tokens.total < 60_000 + 3 * 5_200


def test_a_chat_reserves_every_reply_that_it_asks_for(upstream: Upstream, admit: Admit) -> None:
    upstream.play(streamed("chat", HELLO))
    client = admit(tokens=3500)
    assert client.ask("chat", n=4).status_code == 429
    assert upstream.got == []
    assert client.ask("chat", n=3).status_code == 200


def test_a_call_that_was_sent_and_not_answered_costs_its_input(upstream: Upstream, admit: Admit) -> None:
    upstream.play((5.0,), (5.0,))
    client = admit(minutes=0.8 / 60)
    auth = {"authorization": f"Bearer {client.admission.token}"}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(client.url + PATHS["chat"], headers=auth, json=request("chat"), timeout=0.3, verify=False)
    sent = len(upstream.got[0].body) // 3 + 1
    _until(lambda: client.admission.spent().tokens == Tokens(sent))
    assert client.ask("chat").status_code == 429  # the minutes end it
    spent = client.admission.close()
    assert (spent.tokens, spent.stopped) == (Tokens(2 * sent), "minutes")
    assert [line["estimated"] for line in read_lines(client.folder / EXCHANGES)] == [True, True]
    upstream.play()
    again = admit(replay=client.folder / EXCHANGES)
    with pytest.raises(httpx2.RemoteProtocolError):
        again.ask("chat")
    assert again.admission.spent().tokens == Tokens(sent)


def test_tries_that_are_lost_count_against_the_limit(upstream: Upstream, admit: Admit) -> None:
    upstream.play(*((RESET,),) * 6)
    client = admit(tokens=1100)
    assert client.ask("chat").status_code == 429
    assert 1 <= len(upstream.got) < 6
    assert client.admission.spent().stopped == "tokens"


def test_the_minutes_end_a_call_under_way(upstream: Upstream, admit: Admit) -> None:
    first = events("messages", HELLO)[0]
    upstream.play((head(), *[part for _ in range(100) for part in (first, 0.1)]))
    client = admit(minutes=0.5 / 60)
    with pytest.raises(httpx2.RemoteProtocolError):
        client.ask("messages")
    assert client.admission.spent().stopped == "minutes"
    assert client.ask("messages").status_code == 403
    assert len(upstream.got) == 1


def test_a_client_that_hangs_up_ends_the_call_and_pays_for_what_had_streamed(upstream: Upstream, admit: Admit) -> None:
    pieces = events("messages", Say("y" * 300))
    upstream.play((head(), *pieces[:-2], 5.0, *pieces[-2:]))
    client = admit()
    auth = {"x-api-key": client.admission.token}
    with client.http.stream("POST", client.url + PATHS["messages"], headers=auth, json=request("messages")) as reply:
        next(reply.iter_raw())
        time.sleep(0.2)
    _until(lambda: upstream.hung_up == 1)
    _until(lambda: client.admission.spent().tokens == Tokens(100, 40, 10, 100))
    line = next(read_lines(client.folder / EXCHANGES))
    assert (line["error"], line["estimated"], line["whole"]) == ("the client hung up", True, False)


def test_closing_ends_what_is_under_way_and_stops_listening(upstream: Upstream, admit: Admit) -> None:
    upstream.play((head(), events("chat", HELLO)[0], 5.0))
    client = admit()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.ask, "chat")
        _until(lambda: len(upstream.got) == 1)
        time.sleep(0.1)
        spent = client.admission.close()
        with pytest.raises(httpx2.RemoteProtocolError):
            under_way.result()
    assert (spent.exchanges, spent.tokens.input > 0) == (1, True)
    assert client.admission.close() == spent
    with pytest.raises(httpx2.ConnectError):
        client.ask("chat")


def _until(true: Any) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What a server may do, what the client sees, how often it is asked, and what the attempt is told that it was.
FAULTS = {
    "401": ((failing(401, "authentication_error"),), 401, 1, "auth"),
    "403": ((failing(403, "permission_error"),), 403, 1, "auth"),
    "404": ((failing(404, "not_found_error", "no such model"),), 404, 1, "protocol"),
    "429 for good": ((failing(429, "rate_limit_error"),) * 9, 429, 6, "throttled"),
    "429 once": ((failing(429, "rate_limit_error"), HELLO), 200, 2, None),
    "429 asking for a moment": ((failing(429, "rate_limit_error", retry_after="0.1"), HELLO), 200, 2, None),
    "429 asking for an hour": ((failing(429, "rate_limit_error", retry_after="3600"),), 429, 1, "throttled"),
    "429 out of quota": ((failing(429, "insufficient_quota"),), 429, 1, "quota"),
    "500": ((failing(500, "server_error"),) * 9, 500, 6, "network"),
    "529 once": ((failing(529, "overloaded_error"), HELLO), 200, 2, None),
    "too long": ((failing(400, "invalid_request_error", "prompt is too long"),), 400, 1, "protocol"),
    "reset at once": (((RESET,), HELLO), 200, 2, None),
    "reset after the head": (((head(), RESET), HELLO), 200, 2, None),
    "nothing but resets": (((RESET,),) * 9, 502, 6, "network"),
    "silence": (((SILENCE + 2.0,),), 502, 1, "network"),
    "an error page": (((head(400, "text/html"), b"<html>no"),), 400, 1, "protocol"),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_before_its_reply(fault: str, api: str, upstream: Upstream, admit: Admit) -> None:
    script, status, asked, kind = FAULTS[fault]
    steps = (streamed(api, step) if isinstance(step, Say) else step for step in script)
    upstream.play(streamed(api, HELLO), *steps)
    client = admit()
    client.ask(api)  # which ends the pauses of the tests before
    before = client.admission.spent()
    reply = client.ask(api)
    assert (reply.status_code, len(upstream.got)) == (status, 1 + asked)
    assert "retry-after" not in reply.headers  # which a client would obey, however long
    spent = client.admission.spent()
    assert (spent.failure and spent.failure.kind) == kind
    lost = asked - (status == 200) if "reset" in fault or fault == "silence" else 0
    assert spent.tokens == (USED + USED if status == 200 else USED) + Tokens(
        lost * (len(upstream.got[1].body) // 3 + 1)
    )
    assert (spent.waited > before.waited) == (asked > 1)


def cut(api: str) -> list[bytes]:
    return events(api, Say("z" * 300))[: -3 if api == "chat" else -2]


BROKEN = {
    "reset": lambda api: (head(), *cut(api), 0.1, RESET),
    "truncated": lambda api: (head(), *cut(api)),
    "silent": lambda api: (head(), *cut(api), SILENCE + 2.0),
    "no JSON": lambda api: (head(), *cut(api), b"data: {]\n\n"),
    "an error": lambda api: streamed(api, Say("z" * 300, trouble="server_error")),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", BROKEN)
def test_a_reply_that_breaks_off_is_passed_on_as_far_as_it_came_paid_for_and_not_asked_again(
    fault: str, api: str, upstream: Upstream, admit: Admit
) -> None:
    upstream.play(BROKEN[fault](api))
    client = admit()
    came = b""
    auth = {"authorization": f"Bearer {client.admission.token}"}
    try:
        with client.http.stream("POST", client.url + PATHS[api], headers=auth, json=request(api)) as reply:
            for chunk in reply.iter_raw():
                came += chunk
    except httpx2.HTTPError:
        assert fault in ("reset", "silent")
    assert b"z" * 150 in came
    assert len(upstream.got) == 1
    spent = client.admission.spent()
    assert (spent.failure and spent.failure.kind) == "network"
    assert spent.tokens.sent > 0
    assert spent.tokens.output >= (100 if api != "responses" else 0)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
@pytest.mark.parametrize("api", APIS)
def test_a_page_in_place_of_a_stream_is_named(api: str, kind: str, upstream: Upstream, admit: Admit) -> None:
    upstream.play((head(200, kind), b"<html>Please log in\n"))
    client = admit()
    assert client.ask(api, stream=True).status_code == 200
    spent = client.admission.spent()
    assert spent.failure is not None
    assert spent.failure.kind == "protocol"
    assert f"answered with {kind.split(';')[0]}, not with a stream of events" in str(spent.failure)
    assert (spent.tokens.total == 0) == (kind != "application/json")


def test_a_call_that_succeeds_takes_back_what_failed_before(upstream: Upstream, admit: Admit) -> None:
    upstream.play(failing(401, "authentication_error"), streamed("chat", HELLO))
    client = admit()
    client.ask("chat")
    client.ask("chat")
    assert client.admission.spent().failure is None


def test_a_server_that_cannot_be_reached_is_said_so(admit: Admit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    asks = {"openai": process.Upstream(f"{url}/v1", KEYS["openai"])}
    with Gateway(first_wait=0.01) as gateway:
        client = admit(through=gateway, asks=asks)
        assert client.ask("chat").status_code == 502
        failure = client.admission.close().failure
        assert failure is not None
        assert (failure.kind, "--base-url" in failure.remedy) == ("network", True)
        other = admit(through=gateway, asks=asks)
        assert other.ask("messages").status_code == 502
        assert "no anthropic server" in str(other.admission.close().failure)


def test_a_pause_that_a_server_asks_for_holds_back_other_attempts_too(upstream: Upstream, admit: Admit) -> None:
    upstream.play(failing(429, "rate_limit_error", retry_after="0.6"), *(streamed("chat", HELLO),) * 3)
    one, other = admit(), admit()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.ask, "chat")
        _until(lambda: len(upstream.got) == 1)
        time.sleep(0.1)
        assert other.ask("chat").status_code == 200
        assert first.result().status_code == 200
    assert upstream.got[1].at - upstream.got[0].at >= 0.59
    assert other.admission.spent().waited > 0.3


def test_waiting_is_credited_as_it_passes_and_once_for_calls_at_the_same_time(upstream: Upstream, admit: Admit) -> None:
    upstream.play(failing(429, "rate_limit_error", retry_after="1.5"), streamed("chat", HELLO))
    client = admit()
    began = time.monotonic()

    def gone(_: int) -> None:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(client.url + PATHS["chat"], headers=auth, json=request("chat"), timeout=0.4, verify=False)

    auth = {"authorization": f"Bearer {client.admission.token}"}
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(gone, 0)
        _until(lambda: client.admission.spent().waited > 0)
        list(pool.map(gone, range(8)))
        first.result()
    _until(lambda: len(list(read_lines(client.folder / EXCHANGES))) == 9)
    waited, passed = client.admission.spent().waited, time.monotonic() - began
    assert 0 < waited < passed
    lines = list(read_lines(client.folder / EXCHANGES))
    assert sum(sum(line["waited"]) for line in lines) > 2 * waited  # each call's own
    time.sleep(0.2)
    assert client.admission.spent().waited == waited
    assert client.ask("chat").status_code == 200


def test_a_wait_moves_the_end_of_the_minutes_for_every_call_under_way(upstream: Upstream, admit: Admit) -> None:
    slow = (head(), *[part for piece in events("chat", HELLO) for part in (piece, 0.2)])
    upstream.play(slow, failing(429, "rate_limit_error", retry_after="1"), streamed("chat", HELLO))
    client = admit(minutes=1.3 / 60)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.ask, "chat")  # takes longer than the minutes
        _until(lambda: len(upstream.got) == 1)
        assert client.ask("chat").status_code == 200
        assert first.result().status_code == 200
    assert client.admission.spent().stopped == ""


@pytest.mark.parametrize("api", APIS)
def test_hosted_tools_do_not_reach_the_server(api: str, upstream: Upstream, admit: Admit) -> None:
    upstream.play(streamed(api, HELLO))
    client = admit()
    mine = {"type": "custom", "name": "bash"}
    assert client.ask(api, tools=[{"type": "web_search"}, mine]).status_code == 200
    assert upstream.bodies() == [request(api, tools=[mine])]
    client.admission.close()
    line = next(read_lines(client.folder / EXCHANGES))
    assert (line["removed"], line["request"]["tools"][0]) == (["web_search"], {"type": "web_search"})


UNCOUNTED = {
    "background": {"background": True}, "kept by its id": {"previous_response_id": "resp_1"},
    "kept": {"conversation": "conv_1"},
}  # fmt: skip


@pytest.mark.parametrize("what", UNCOUNTED)
def test_what_could_not_be_counted_is_refused(what: str, upstream: Upstream, admit: Admit) -> None:
    upstream.play(streamed("responses", HELLO))
    client = admit()
    reply = client.ask("responses", **UNCOUNTED[what])
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert next(iter(UNCOUNTED[what])) in reply.text
    auth = {"authorization": f"Bearer {client.admission.token}"}
    for body in (b"", b"[]", b"\x28\xb5\x2f\xfd", json.dumps(request("responses")).encode("utf-16")):
        assert client.http.post(client.url + PATHS["responses"], headers=auth, content=body).status_code == 400
    assert upstream.got == []
    assert client.ask("responses", background=False, previous_response_id=None).status_code == 200


def test_bodies_are_bounded(upstream: Upstream, admit: Admit) -> None:
    upstream.play()
    client = admit()
    auth = {"x-api-key": client.admission.token}

    def endless() -> Iterator[bytes]:
        for _ in range(66):
            yield bytes(1 << 20)

    try:
        status = client.http.post(client.url + "/v1/messages", headers=auth, content=endless()).status_code
    except httpx2.HTTPError:
        status = 413  # it was refused before all of it was sent
    assert (status, upstream.got) == (413, [])


def test_a_body_is_not_kept_for_whom_the_gateway_does_not_know(gateway: Gateway, admit: Admit) -> None:
    client = admit()
    status = Path("/proc") / str(gateway._process.pid) / "status"

    def resident() -> int:  # KiB
        return int(status.read_text().partition("VmRSS:")[2].split()[0])

    before = resident()
    where = ("127.0.0.1", int(client.url.rpartition(":")[2]))
    with socket.create_connection(where) as one, socket.create_connection(where) as other:
        for wrong in (one, other):
            wrong.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: no\r\ncontent-length: 60000000\r\n\r\n")
            wrong.sendall(bytes(59_999_999))
        assert resident() - before < 40_000
        one.sendall(b"\0")
        assert one.recv(100).startswith(b"HTTP/1.1 401")


def test_connections_through_one_door_are_bounded(upstream: Upstream, admit: Admit) -> None:
    upstream.play(*(streamed("messages", HELLO),) * 2)
    client, other = admit(), admit()
    where = ("127.0.0.1", int(client.url.rpartition(":")[2]))
    idle = [socket.create_connection(where) for _ in range(64)]
    try:
        assert client.ask("messages").status_code == 503
        assert other.ask("messages").status_code == 200
    finally:
        for each in idle:
            each.close()
    _until(lambda: client.http.head(client.url + "/").status_code == 200)
    assert client.ask("messages").status_code == 200


def test_the_key_is_upstream_and_nowhere_else(
    upstream: Upstream, tmp_path: Path, gateway: Gateway, admit: Admit
) -> None:
    key = KEYS["openai"]
    upstream.play(failing(401, "invalid_api_key", f"Incorrect API key provided: {key}", x_echo=key), whole("chat"))
    client = admit()
    reply = client.ask("chat")
    assert key not in reply.text + str(reply.headers)
    client.ask("chat", stream=False, note=f"a prompt that holds {key} and {client.admission.token}")
    client.admission.close()
    secrets = [value.encode() for value in (*KEYS.values(), client.admission.token)]
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or not any(secret in file.read_bytes() for secret in secrets), file
    process_folder = Path("/proc") / str(gateway._process.pid)
    if os.getuid() == 0:  # the kernel keeps the environment of such a process from all others
        assert not any(secret in (process_folder / "environ").read_bytes() for secret in secrets)
    assert not any(secret in (process_folder / "cmdline").read_bytes() for secret in secrets)
    assert KEYS["openai"] in upstream.got[0].head


def test_the_record_grows_with_the_conversation_and_gives_every_request_back(upstream: Upstream, admit: Admit) -> None:
    upstream.play(*(streamed("messages", HELLO),) * 60)
    client = admit(steps=100)
    said = [{"role": "user", "content": "word " * 200}]
    bodies = []
    for turn in range(30):
        bodies += [request("messages", messages=list(said), temperature=turn // 10), request("messages", system="side")]
        client.ask("messages", messages=list(said), temperature=turn // 10)
        client.ask("messages", system="side")
        said += [{"role": "assistant", "content": f"answer {turn} " * 50}, {"role": "user", "content": "more " * 100}]
    client.admission.close()
    exchanges = load_exchanges(client.folder / EXCHANGES)
    assert [exchange.request for exchange in exchanges] == bodies
    sizes = [len(line) for line in (client.folder / EXCHANGES).read_text().splitlines()]
    assert max(sizes[20:]) < 1.2 * max(sizes[:10])


@pytest.mark.parametrize("api", APIS)
def test_a_recording_is_served_without_a_server_and_says_where_a_replay_differs(
    api: str, upstream: Upstream, admit: Admit
) -> None:
    growing = "input" if api == "responses" else "messages"

    def turn(number: int, when: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{said} at {when}"} for said in range(number + 1)]

    upstream.play(streamed(api, HELLO), failing(404, "not_found_error"), whole(api), streamed(api, Say("bye")))
    first = admit()
    was = [first.ask(api, **{growing: turn(n, "2026-11-01 10:00:00"), "stream": n != 2}) for n in range(4)]
    spent = first.admission.close()
    upstream.play()
    again = admit(replay=first.folder / EXCHANGES)
    later = [again.ask(api, **{growing: turn(n, "2026-12-24 23:59:59"), "stream": n != 2}) for n in range(4)]
    assert [(r.status_code, r.content) for r in later] == [(r.status_code, r.content) for r in was]
    replayed = again.admission.close()
    assert (replayed.tokens, replayed.usd, replayed.models) == (spent.tokens, spent.usd, spent.models)
    assert upstream.got == []

    apart = admit(replay=first.folder / EXCHANGES)
    apart.ask(api, **{growing: turn(0, "2026-12-24")})
    other = turn(1, "2026-12-24")
    other[1]["content"] = "something else"
    assert apart.ask(api, **{growing: other}).status_code in (403, 429)
    failure = str(apart.admission.close().failure)
    assert f"exchange 2 differs from the recorded one at /{growing}/1/content" in failure
    assert 'recorded "1 at 2026-11-01 10:00:00", seen "something else"' in failure
    one_more = admit(replay=first.folder / EXCHANGES)
    for number in range(4):
        one_more.ask(api, **{growing: turn(number, "2026-12-24"), "stream": number != 2})
    assert one_more.ask(api).status_code in (403, 429)
    assert "the recording has 4" in str(one_more.admission.close().failure)
