"""What the gateway adds to a model's stream, beside a direct connection in the same run.

    python -m benchmarks.gateway [--requests 4] [--events 40] [--gap 0.02]

A fake model server in a process of its own writes events, each with the time of its writing (CLOCK_MONOTONIC, which all
processes share); the client notes when it reads each. Each stream is an attempt of its own. Rounds through the gateway
and direct ones alternate. Prints a table: time to the first event and of an event under way, the CPU time that the
gateway takes, and how many events were read together with the one after them (a proxy that buffers reads many at once).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from omniperf.gateway.process import Gateway, Upstream
from omniperf.tasks.schema import Limits

BODY = json.dumps(
    {"model": "m", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "x" * 20_000}]}
)
AT = re.compile(rb'"at": (\d+)')
ROUNDS = 3
MOST = 64  # streams, each of an attempt of its own
TICKS = os.sysconf("SC_CLK_TCK")


async def serve(listener: socket.socket, events: int, gap: float) -> None:
    """The model server."""

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
                await reader.readexactly(length)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for number in range(events):
                    if number:
                        await asyncio.sleep(gap)
                    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "word "}}
                    data = json.dumps({**delta, "at": time.monotonic_ns()}).encode()
                    data = b"event: content_block_delta\ndata: " + data + b"\n\n"
                    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(stream, sock=listener, backlog=256)
    await server.serve_forever()


class Seen:
    """What clients saw: seconds to each first event, seconds under way of each event, events read with another."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.under_way: list[float] = []
        self.together = 0


async def ask(port: int, token: str, requests: int, seen: Seen, after: float = 0.0) -> None:
    """One client with one connection, which begins after so many seconds."""
    await asyncio.sleep(after)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\ncontent-length: {len(BODY)}\r\n\r\n"
    for _ in range(requests):
        began = time.monotonic_ns()
        writer.write((head + BODY).encode())
        first, rest = True, b""
        while not rest.endswith(b"0\r\n\r\n"):
            data = await reader.read(1 << 16)
            now = time.monotonic_ns()
            if not data:
                raise ConnectionError("the stream broke off")
            rest = rest[-64:] + data
            written = [int(at) for at in AT.findall(data)]
            if written and first:
                seen.first.append((now - began) / 1e9)
                first = False
            seen.under_way += [(now - at) / 1e9 for at in written]
            seen.together += max(0, len(written) - 1)
    writer.close()


async def together(doors: list[tuple[int, str]], requests: int, seen: Seen, seconds: float) -> None:
    """A client at each door (port, token), which begin one after another within so many seconds, as agents do."""
    step = seconds / len(doors)
    await asyncio.gather(*(ask(*door, requests, seen, step * number) for number, door in enumerate(doors)))


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def percent(values: list[float], share: int) -> float:
    """A percentile, in milliseconds."""
    return 1000 * statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--gap", type=float, default=0.02)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(socket.socket(fileno=given.serve), given.events, given.gap))
        return
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    direct = listener.getsockname()[1]
    options = ["--events", str(given.events), "--gap", str(given.gap), "--serve", str(listener.fileno())]
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.gateway", *options], pass_fds=[listener.fileno()])
    upstream = Upstream(f"http://127.0.0.1:{direct}", "sk-benchmark-0123456789")
    limits = Limits(tokens=10**12, usd=10**9, steps=10**9, minutes=10**6)
    seconds = given.events * given.gap
    columns = (
        "| streams | | first event p50 | p99 | event p50 | p99 | read together | gateway CPU a request | of a core |"
    )
    print(columns, "|---|---|---|---|---|---|---|---|---|", sep="\n")
    try:
        with Gateway() as gateway, tempfile.TemporaryDirectory() as folder:
            doors, admissions = [], []
            for number in range(MOST):
                with socket.create_server(("127.0.0.1", 0)) as door:
                    place = Path(folder) / str(number)
                    place.mkdir()
                    admissions.append(gateway.admit(door, limits, place, {"anthropic": upstream}))
                    doors.append((door.getsockname()[1], admissions[-1].token))
            assert gateway._process is not None
            asyncio.run(together(doors, 1, Seen(), 0.1))
            for streams in (1, 8, MOST):
                seen = {"direct": Seen(), "gateway": Seen()}
                used = wall = 0.0
                for _ in range(ROUNDS):
                    asyncio.run(together([(direct, "none")] * streams, given.requests, seen["direct"], seconds))
                    before, began = cpu(gateway._process.pid), time.monotonic()
                    asyncio.run(together(doors[:streams], given.requests, seen["gateway"], seconds))
                    used, wall = used + cpu(gateway._process.pid) - before, wall + time.monotonic() - began
                for name, each in seen.items():
                    shown = [percent(each.first, 50), percent(each.first, 99)]
                    shown += [percent(each.under_way, 50), percent(each.under_way, 99)]
                    figures = " | ".join(f"{value:.2f} ms" for value in shown)
                    count = len(each.under_way)
                    cost = f"{1000 * used / (streams * given.requests * ROUNDS):.1f} ms | {used / wall:.0%}"
                    cost = cost if name == "gateway" else "|"
                    print(f"| {streams} | {name} | {figures} | {each.together} of {count} | {cost} |")
                one, other = seen["direct"], seen["gateway"]
                added = [percent(other.first, at) - percent(one.first, at) for at in (50, 99)]
                added += [percent(other.under_way, at) - percent(one.under_way, at) for at in (50, 99)]
                print(f"| {streams} | **added** | " + " | ".join(f"{value:.2f} ms" for value in added) + " | | | |")
            for admission in admissions:
                admission.close()
        print(f"\nload of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
