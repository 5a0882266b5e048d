"""How the gateway asks servers: connections that are kept or not, TLS, proxies, and replies in every framing."""

from __future__ import annotations

import asyncio
import base64
import datetime
import gzip
import ipaddress
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from omniperf.gateway.client import Client, Response
from omniperf.gateway.failures import CallError
from omniperf.gateway.route import Place, route_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

KEY = [(b"x-api-key", b"sk-a-key-0123456789")]
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    route_to.cache_clear()
    yield
    route_to.cache_clear()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return file


Serve: TypeAlias = "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]"


@asynccontextmanager
async def serving(serve: Serve, tls: Path | None = None) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
    under_way: set[asyncio.Task[None] | None] = set()

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):  # the client has what it wanted
            writer.close()

    async with await asyncio.start_server(noted, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*filter(None, under_way))


async def request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """A request: its head and its body. Raises IncompleteReadError at the end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().partition("content-length: ")[2].split("\r")[0] or 0)
    return head, await reader.readexactly(length)


def saying(*replies: bytes, heads: list[str]) -> Serve:
    """What serves these replies on each connection, one a request, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for reply in replies:
                heads.append((await request(reader))[0])
                writer.write(reply)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    return serve


async def ask(client: Client, url: str, body: bytes = b"{}", sent: Callable[[], None] = lambda: None) -> Response:
    return await client.ask(route_to(url), "POST", "/v1/messages", KEY, body, sent)


async def all_of(response: Response) -> bytes:
    return b"".join([part async for part in _parts(response)])


async def _parts(response: Response) -> AsyncIterator[bytes]:
    while part := await response.read():
        yield part


def client(silence: float = 10.0, trusting: Path | None = None) -> Client:
    return Client(ssl.create_default_context(cafile=trusting), silence)


FRAMINGS = {
    "a length": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789",
    "chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\nx: y\r\n\r\n",
    "the end": b"HTTP/1.1 200 OK\r\n\r\n0123456789",
    "old": b"HTTP/1.0 200 OK\r\n\r\n0123456789",
    "said before": b"HTTP/1.1 103 X\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789",
    "gzip": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"0123456789"),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_reply_in_any_framing_however_it_is_cut(framing: str, cut: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        for at in range(0, len(FRAMINGS[framing]), cut):
            writer.write(FRAMINGS[framing][at : at + cut])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async def go() -> None:
        async with serving(serve) as port:
            response = await ask(client(), f"http://127.0.0.1:{port}")
            assert (response.status, await all_of(response)) == (200, b"0123456789")
            assert await response.read() == b""

    asyncio.run(go())


BROKEN = {
    "no answer": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "short": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234",
    "chunks without an end": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 5\r\n\r\n0123456789",
    "no gzip": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n0123456789",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000,
}


@pytest.mark.parametrize("reply", BROKEN)
def test_a_reply_that_breaks_off_or_is_none_may_be_tried_again(reply: str) -> None:
    async def go() -> None:
        async with serving(saying(BROKEN[reply], heads=[])) as port:
            with pytest.raises(CallError) as caught:
                await all_of(await ask(client(), f"http://127.0.0.1:{port}"))
            assert (caught.value.kind, caught.value.retry) == ("network", True)

    asyncio.run(go())


def test_a_coding_that_nobody_can_undo_is_not_passed_on() -> None:
    async def go() -> None:
        async with serving(saying(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\n\r\n0123", heads=[])) as port:
            with pytest.raises(CallError, match="'br'") as caught:
                await ask(client(), f"http://127.0.0.1:{port}")
            assert (caught.value.kind, caught.value.retry) == ("protocol", False)

    asyncio.run(go())


def test_a_silence_is_not_tried_again_and_ends_at_its_time_though_waits_before_it_were_short() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(8):
            writer.write(b"x")
            await asyncio.sleep(0.1)
        await reader.read()
        writer.close()

    async def go() -> None:
        async with serving(serve) as port:
            response = await ask(client(silence=0.5), f"http://127.0.0.1:{port}")
            came = b""
            with pytest.raises(CallError, match=r"silent for 0\.5 s") as caught:
                while part := await response.read():
                    came += part
            assert (came, caught.value.retry) == (b"x" * 8, False)
            response.close()

    asyncio.run(go())


def test_a_connection_is_used_again_unless_the_server_hung_up_or_spoke_unasked() -> None:
    opened: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(0)
        try:
            while True:
                await request(reader)
                opened[-1] += 1
                writer.write(WHOLE)
                if opened == [2]:
                    await asyncio.sleep(0.05)
                    writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
                if opened == [2, 1]:
                    await asyncio.sleep(0.05)
                    break
                if opened == [2, 1, 1]:
                    writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")  # in one with the reply
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def go() -> None:
        async with serving(serve) as port:
            one, url = client(), f"http://127.0.0.1:{port}"
            for pause in (0.0, 0.1, 0.1, 0.1, 0.0, 0.0):
                response = await ask(one, url)
                assert (response.status, await all_of(response)) == (200, b"whole")
                await asyncio.sleep(pause)
            assert opened == [2, 1, 1, 2]
            for _ in range(2):
                (await ask(one, url)).close()  # what was not read goes with its connection
            assert opened == [2, 1, 1, 3, 1]

    asyncio.run(go())


def test_an_answer_that_comes_before_a_large_body_was_sent_is_an_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def go() -> None:
        sent: list[bool] = []
        async with serving(serve) as port:
            response = await ask(client(), f"http://127.0.0.1:{port}", bytes(30_000_000), lambda: sent.append(True))
            assert (response.status, sent) == (413, [])

    asyncio.run(go())


def test_a_server_that_is_faster_than_the_client_waits_for_it() -> None:
    total, wrote = 60_000_000, [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while wrote[0] < total:
            writer.write(bytes(100_000))
            await writer.drain()
            wrote[0] += 100_000
        writer.close()

    async def go() -> None:
        async with serving(serve) as port:
            response = await ask(client(), f"http://127.0.0.1:{port}")
            before = -1
            while before != wrote[0]:  # until it is stuck
                before = wrote[0]
                await asyncio.sleep(0.2)
            assert before < total / 2
            assert len(await all_of(response)) == total

    asyncio.run(go())


@pytest.mark.parametrize("trusted", [True, False])
def test_a_key_goes_to_a_server_whose_certificate_is_good_alone(certificate: Path, trusted: bool) -> None:
    async def go() -> None:
        heads: list[str] = []
        async with serving(saying(WHOLE, WHOLE, heads=heads), certificate) as port:
            one = client(trusting=certificate if trusted else None)
            if trusted:
                for _ in range(2):
                    assert await all_of(await ask(one, f"https://127.0.0.1:{port}/base/")) == b"whole"
                assert [head.split("\r\n")[0] for head in heads] == ["POST /base/v1/messages HTTP/1.1"] * 2
            else:
                with pytest.raises(CallError, match="certificate"):
                    await ask(one, f"https://127.0.0.1:{port}")
                assert heads == []
            with pytest.raises(CallError, match="certificate"):  # which is another host's
                await ask(one, f"https://localhost:{port}")
            one.close()

    asyncio.run(go())


class Proxy:
    """A proxy that takes a CONNECT to wherever it is told, and notes all that it reads."""

    def __init__(self, target: int, status: int = 200) -> None:
        self.target, self.status, self.heads, self.seen = target, status, list[str](), b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 %d X\r\n\r\n" % self.status)
        if self.status == 200:
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(self._pass(reader, onward), self._pass(there, writer))
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.seen += data
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()


@pytest.mark.parametrize("secured", [False, True], ids=["a plain proxy", "a proxy that is spoken to in TLS"])
def test_a_secure_server_is_reached_through_the_proxy_which_sees_no_key(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, secured: bool
) -> None:
    async def go() -> None:
        heads: list[str] = []
        async with serving(saying(WHOLE, WHOLE, heads=heads), certificate) as port:
            proxy = Proxy(port)
            async with serving(proxy.serve, certificate if secured else None) as at:
                scheme = "https" if secured else "http"
                monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://me:p%40ss@127.0.0.1:{at}")
                one = client(trusting=certificate)
                for _ in range(2):
                    assert await all_of(await ask(one, "https://127.0.0.1:4433")) == b"whole"
                pair = base64.b64encode(b"me:p@ss").decode()
                told = ["CONNECT 127.0.0.1:4433 HTTP/1.1", "host: 127.0.0.1:4433", f"proxy-authorization: Basic {pair}"]
                assert proxy.heads == ["\r\n".join([*told, "", ""])]
                assert b"sk-a-key" not in proxy.seen
                assert ["sk-a-key" in head for head in heads] == [True, True]
                assert pair not in "".join(heads)
                one.close()
                other = client()  # which does not trust the server
                with pytest.raises(CallError, match="certificate"):
                    await ask(other, "https://127.0.0.1:4433")
                assert len(heads) == 2

    asyncio.run(go())


def test_a_proxy_that_refuses_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        proxy = Proxy(0, 407)
        async with serving(proxy.serve) as at:
            monkeypatch.setenv("ALL_PROXY", f"127.0.0.1:{at}")
            with pytest.raises(CallError, match="the proxy answered 407"):
                await ask(client(), "https://server.example")
            assert "sk-a-key" not in "".join(proxy.heads)

    asyncio.run(go())


def test_an_insecure_server_is_asked_for_by_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        heads: list[str] = []
        async with serving(saying(WHOLE, heads=heads)) as at:
            monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{at}")
            assert await all_of(await ask(client(), "http://server.example:8000/base")) == b"whole"
            lines = heads[0].split("\r\n")
            assert lines[0] == "POST http://server.example:8000/base/v1/messages HTTP/1.1"
            assert "host: server.example:8000" in lines
            assert f"proxy-authorization: Basic {base64.b64encode(b'me:pass').decode()}" in lines

    asyncio.run(go())


def test_a_proxy_of_another_kind_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("socks5://127.0.0.1:1080", "http://h:port"):
        monkeypatch.setenv("https_proxy", named)
        with pytest.raises(CallError, match="no http or https URL"):
            route_to("https://server.example")
    assert route_to("http://server.example").proxy is None


SPARED = {
    "*": True, "": False, "example.com": True, ".example.com": True, "*.example.com": True, "api.example.com": True,
    "API.Example.com": True, "ample.com": False, "api.example.com:8443": True, "api.example.com:443": False,
    "other.example, example.com": True, "https://api.example.com": True, "10.0.0.0/8": False,
}  # fmt: skip


@pytest.mark.parametrize("entries", SPARED)
def test_whom_no_proxy_spares(entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", entries)
    found = route_to("https://api.example.com:8443/v1")
    assert found.server == Place("api.example.com", 8443, True)
    assert found.proxy == (None if SPARED[entries] else Place("proxy.example", 3128, False))
    assert httpx_spares(entries) is SPARED[entries]


def httpx_spares(entries: str) -> bool:
    """What the SDKs' own client makes of the same entries."""
    with httpx2.Client() as made:
        return made._transport_for_url(httpx2.URL("https://api.example.com:8443/v1")) is made._transport


@pytest.mark.parametrize(
    ("host", "entry"),
    [("10.1.2.3", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3"), ("[fd00::1]", "fd00::/8"), ("[::1]", "[::1]")],
)
def test_no_proxy_spares_addresses_and_networks(host: str, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy.example:3128")
    assert route_to(f"http://{host}:8000").proxy is not None
    route_to.cache_clear()
    monkeypatch.setenv("no_proxy", f"localhost,{entry}")
    assert route_to(f"http://{host}:8000").proxy is None
