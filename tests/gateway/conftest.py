"""A gateway for all tests of this folder, with one attempt a test."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from omniperf.errors import InfraError
from omniperf.gateway import process
from omniperf.gateway.process import Admission, Gateway
from omniperf.tasks.schema import Limits
from tests.gateway.upstream import PATHS, Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.gateway.shapes import Provider

KEYS = {"anthropic": "sk-ant-upstream-0123456789abcdef", "openai": "sk-upstream-fedcba9876543210"}
MODELS = {"messages": "claude-opus-5-5", "responses": "gpt-6.2-sol", "chat": "gpt-6.2-sol"}
SILENCE = 1.0  # seconds


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(silence=SILENCE, first_wait=0.02) as made:
        yield made


def servers(url: str) -> dict[Provider, process.Upstream]:
    """Both providers at that server."""
    return {
        "anthropic": process.Upstream(url, KEYS["anthropic"]),
        "openai": process.Upstream(f"{url}/v1", KEYS["openai"]),
    }


@dataclass
class Client:
    """An attempt and a client of its: `ask` makes one call."""

    admission: Admission
    url: str
    folder: Path
    http: httpx2.Client

    def ask(self, api: str, key: str = "", **body: Any) -> httpx2.Response:
        token = key or self.admission.token
        auth = {"x-api-key": token} if api == "messages" else {"authorization": f"Bearer {token}"}
        return self.http.post(self.url + PATHS[api], headers=auth, json=request(api, **body))


def request(api: str, **body: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": "Go."}]
    growing = {"input": said} if api == "responses" else {"messages": said}
    limit = "max_output_tokens" if api == "responses" else "max_tokens"
    return {"model": MODELS[api], limit: 1000, "stream": True, **growing, **body}


Admit = Callable[..., Client]


@pytest.fixture
def admit(gateway: Gateway, upstream: Upstream, tmp_path: Path) -> Iterator[Admit]:
    """Admit an attempt with these limits; `asks` are its servers."""
    made: list[Client] = []

    def enter(
        replay: Path | None = None, through: Gateway | None = None,
        asks: dict[Provider, process.Upstream] | None = None, **limits: Any,
    ) -> Client:  # fmt: skip
        folder = tmp_path / f"attempt-{len(made)}"
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            admission = (through or gateway).admit(
                listener, Limits(**limits), folder, asks or servers(upstream.url), replay=replay
            )
        made.append(Client(admission, url, folder, httpx2.Client(timeout=20)))
        return made[-1]

    yield enter
    for client in made:
        client.http.close()
        with suppress(InfraError):  # its gateway is gone
            client.admission.close()
