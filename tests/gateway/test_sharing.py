"""One gateway for all attempts of a run or sweep: who comes to it, what they share, and what is left when one dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from omniperf.errors import InfraError
from omniperf.gateway.backoff import Pause
from omniperf.gateway.process import Entrance, Gateway
from omniperf.gateway.shared import Shared
from omniperf.tasks.schema import Limits
from tests.gateway.conftest import Admit, request, servers
from tests.gateway.test_gateway import HELLO
from tests.gateway.upstream import PATHS, Upstream, failing, streamed

if TYPE_CHECKING:
    from collections.abc import Callable


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process is there that is more than its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def left(shared: Shared) -> float:
    """The USD that all attempts together may still spend."""
    with shared.table() as table:
        return float(table["usd"])


def test_nobody_asks_and_nothing_is_started() -> None:
    with Gateway() as gateway:
        assert gateway.idle
    gateway.close()


def forked(entrance: Entrance, listener: socket.socket, folder: Path, url: str) -> int:
    """An attempt in a process of its own, which is admitted and works until it is killed."""
    if pid := os.fork():
        return pid
    try:
        folder.mkdir()
        admission = entrance.admit(listener, Limits(), folder, servers(url))
        listener.close()
        (folder / "in").write_text(admission.token)
        signal.pause()
    finally:
        os._exit(1)


def test_attempts_in_other_processes_share_it_and_an_attempt_that_is_killed_leaves_nothing(
    upstream: Upstream, admit: Admit, tmp_path: Path
) -> None:
    with Gateway() as gateway:
        one = admit(through=gateway)
        assert gateway._process is not None
        serving = gateway._process.pid
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            attempt = forked(gateway, listener, tmp_path / "forked", upstream.url)
        try:
            until((tmp_path / "forked" / "in").exists)
            assert listening(port)
        finally:
            os.kill(attempt, signal.SIGKILL)
            os.waitpid(attempt, 0)
        until(lambda: not listening(port))
        upstream.play(streamed("chat", HELLO))
        assert one.ask("chat").status_code == 200
        assert gateway._process.pid == serving
        one.admission.close()


PARENT = """
import os, signal, socket, sys
from omniperf.gateway.process import Gateway, Upstream
from omniperf.tasks.schema import Limits
gateway = Gateway()
listener = socket.create_server(("127.0.0.1", 0))
admission = gateway.admit(listener, Limits(), None, {"openai": Upstream("http://127.0.0.1:9/v1", "sk-nobody-012345")})
print(gateway._process.pid, listener.getsockname()[1], flush=True)
listener.close()
signal.pause()
"""


def test_it_ends_with_its_parent_even_where_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert parent.stdout is not None
    try:
        pid, port = map(int, parent.stdout.readline().split())
        assert alive(pid)
        assert listening(port)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    until(lambda: not alive(pid))
    assert not listening(port)


def test_where_it_dies_its_attempts_say_so_and_the_next_ones_get_another(upstream: Upstream, admit: Admit) -> None:
    with Gateway() as gateway:
        one = admit(through=gateway)
        assert gateway._process is not None
        gateway._process.kill()
        with pytest.raises(InfraError, match="gateway has ended") as caught:
            one.admission.spent()
        assert caught.value.kind == "spawn"
        with pytest.raises(InfraError):
            one.admission.close()
        upstream.play(streamed("chat", HELLO))
        other = admit(through=gateway)
        assert other.ask("chat").status_code == 200
        other.admission.close()


def test_one_that_dies_over_and_over_is_not_started_for_ever(upstream: Upstream, tmp_path: Path) -> None:
    with Gateway() as gateway, socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(5):
            gateway.serve()
            assert gateway._process is not None
            gateway._process.kill()
            gateway._process.wait()
        with pytest.raises(InfraError, match="ended 5 times"):
            gateway.admit(listener, Limits(), tmp_path, servers(upstream.url))


def test_a_pause_holds_back_those_who_need_no_gateway_too(upstream: Upstream, admit: Admit) -> None:
    with Gateway(first_wait=0.02) as gateway:
        mine = Pause(gateway.shared, "openai", f"{upstream.url}/v1/", 0.02)
        assert mine.left == 0
        upstream.play(failing(429, "rate_limit_error", retry_after="0.8"), streamed("chat", HELLO))
        client = admit(through=gateway)
        with httpx2.Client() as http, pytest.raises(httpx2.ReadTimeout):
            auth = {"authorization": f"Bearer {client.admission.token}"}
            http.post(client.url + PATHS["chat"], headers=auth, json=request("chat"), timeout=0.5)
        assert 0 < mine.left <= 1.25 * 0.8
        assert Pause(gateway.shared, "anthropic", upstream.url, 0.02).left == 0
        time.sleep(mine.left)

        mine.failed(time.monotonic(), 0.6)  # and the other way round
        began = time.monotonic()
        assert client.ask("chat").status_code == 200
        assert time.monotonic() - began >= 0.55
        client.admission.close()


def test_what_processes_share_is_changed_by_one_at_a_time() -> None:
    shared = Shared()
    shared.allow(1000.0)
    children = []
    for _ in range(4):
        if not (pid := os.fork()):
            for _ in range(200):
                shared.pay(1.0)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert left(shared) == 200.0


HOLDER = """
import signal, sys
from omniperf.gateway.shared import Shared
print(Shared(int(sys.argv[1])).hold(0.6, fits=True), flush=True)
signal.pause()
"""


def test_who_is_killed_gives_back_what_it_held() -> None:
    shared = Shared()
    shared.allow(1.0)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(shared.fileno())], stdout=subprocess.PIPE, text=True,
        pass_fds=[shared.fileno()], env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "True\n"
        assert not shared.hold(0.6, fits=True)
        assert shared.hold(0.4, fits=True)
        assert shared.hold(-0.4)
        os.kill(other.pid, signal.SIGSTOP)
        assert not shared.hold(0.6, fits=True)  # it lives still
    finally:
        other.kill()
    until(lambda: not alive(other.pid))
    assert shared.hold(0.6, fits=True)  # though nobody has asked how it ended
    other.wait()
    other.stdout.close()
    assert not shared.hold(0.6, fits=True)
    assert left(shared) == 1.0


def test_a_number_that_is_given_again_is_another_process() -> None:
    shared = Shared()
    shared.allow(1.0)
    assert shared.hold(0.9)
    with shared.table() as table:
        ((own, usd),) = table["held"].items()
        table["held"] = {f"{own}0": usd}  # one of this number that had started at another time
    assert shared.hold(0.9, fits=True)


def test_of_calls_that_are_reserved_at_once_only_so_many_are_as_fit() -> None:
    shared = Shared()
    shared.allow(1.0)
    (start, begin), (told, tell) = os.pipe(), os.pipe()
    children = []
    for _ in range(8):
        if not (pid := os.fork()):
            os.close(begin)
            os.read(start, 1)
            os.write(tell, b"y" if shared.hold(0.3, fits=True) else b"n")
            signal.pause()
        children.append(pid)
    os.close(begin)
    said = b"".join(os.read(told, 1) for _ in children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for descriptor in (start, told, tell):
        os.close(descriptor)
    assert (said.count(b"y"), said.count(b"n")) == (3, 5)


def test_what_a_sweep_may_spend_holds_for_all_its_attempts_together(upstream: Upstream, admit: Admit) -> None:
    with Gateway() as gateway:
        gateway.shared.allow(0.03)
        one, other = admit(through=gateway, usd=5.0), admit(through=gateway, usd=5.0)
        upstream.play(*(streamed("chat", HELLO),) * 60)
        statuses = [client.ask("chat").status_code for _ in range(30) for client in (one, other)]
        assert statuses == sorted(statuses)
        assert set(statuses) == {200, 429}
        told = [client.admission.close() for client in (one, other)]
        assert {each.stopped for each in told} == {"sweep"}
        assert 0.01 < sum(each.usd or 0 for each in told) <= 0.03
        assert left(gateway.shared) == pytest.approx(0.03 - sum(each.usd or 0 for each in told))
