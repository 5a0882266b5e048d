"""What the harness adds to a conversation: start-up, wall and CPU per step, growth over 400 steps, memory.

usage: python -m benchmarks.overhead [--rounds N] [--steps 1 50 200 400]

A server in this process answers at once with prepared replies, so all that is measured is the client's. Each run is the
installed command line on a copy of the quickstart task whose proof is cached, with an agent that changes nothing in the
end, so that nothing is verified. Beside it, in the same rounds, runs a floor: the same exchange with `http.client` and
one shell for each command. A gap is the time from the end of a reply to the end of the next request.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from omniperf.shipped import shipped
from tests.agents import loopback
from tests.agents.loopback import Say

ROUTES = {
    "anthropic": ("anthropic", "/v1/messages", loopback.messages, []),
    "openai responses": ("openai", "/v1/responses", loopback.responses, ["--api", "responses"]),
    "openai chat": ("openai", "/v1/chat/completions", loopback.chat, ["--api", "chat"]),
}
LIMITS = "limits: {steps: 100000, minutes: 60, usd: 100000, tokens: 100000000000}"
Call = tuple[str, dict[str, Any]]


def script(steps: int, *, commits: bool) -> list[Say]:
    """So many turns, each with one command or with an edit and a commit, and then the end."""
    turns = []
    for step in range(steps):
        calls: tuple[Call, ...] = (("bash", {"command": "echo hi"}),)
        if commits:
            edit = {"command": "create", "path": "note.txt", "text": f"{step}\n"}
            calls = (("edit", edit), ("commit", {"message": f"step {step}"}))
        turns.append(Say("step", calls))
    return [*turns, Say("", (("bash", {"command": "rm -f note.txt"}), ("finish", {"summary": "done"})))]


class Server(socketserver.ThreadingTCPServer):
    """Answers the k-th call that brings tools with the k-th prepared reply; reads no more of a request than it must."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[bytes] = []
        self.times: list[tuple[float, float]] = []
        self.biggest = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def load(self, route: str, turns: list[Say]) -> None:
        """Prepare the replies of one run."""
        make = ROUTES[route][2]
        self.probe = framed(make(Say("Yes."), "a-model", 0))
        self.replies = [framed(make(turn, "a-model", number)) for number, turn in enumerate(turns)]
        self.times, self.biggest = [], 0

    @property
    def gaps(self) -> list[float]:
        """Milliseconds from each reply to the next request."""
        return [1000 * (after[0] - before[1]) for before, after in pairwise(self.times)]


def framed(events: list[tuple[str, Any]]) -> bytes:
    """A whole HTTP response."""
    lines = [(f"event: {name}\n" if name else "") + f"data: {json.dumps(value)}\n\n" for name, value in events]
    body = "".join(lines).replace('data: "[DONE]"', "data: [DONE]").encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    disable_nagle_algorithm = True
    server: Server

    def handle(self) -> None:
        """Answer until the client hangs up."""
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = self.rfile.read(length)
            received = time.perf_counter()
            if b'"tools"' not in body:
                self.wfile.write(self.server.probe)
                continue
            self.server.biggest = length
            reply = self.server.replies[len(self.server.times)]
            self.server.times.append((received, received))
            self.wfile.write(reply)
            self.server.times[-1] = (received, time.perf_counter())


def measured(command: list[str], env: dict[str, str], cwd: Path) -> dict[str, float]:
    """Wall and CPU seconds, the latter of everything that was waited for, and the peak memory of one process, in MB."""
    started = time.perf_counter()
    with (cwd / "output").open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(cwd / 'output').read_text()}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss / 1024}


def floor(port: int, path: str, steps: int) -> None:
    """The least that the exchange takes: prepared bytes, one connection, one shell for each command."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = bytearray(b'{"model":"m","tools":[],"messages":[')
    for step in range(steps + 1):
        item = json.dumps({"role": "user", "content": f"step {step}: exit code 0 and a little more than that"})
        body += item.encode() + b","
        connection.request("POST", path, bytes(body) + b"{}]}", {"content-type": "application/json"})
        connection.getresponse().read()
        if step < steps:
            subprocess.run(["/bin/sh", "-c", "echo hi"], capture_output=True, check=True)


def main() -> None:
    """Run everything in turn, round by round, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 50, 200, 400])
    parser.add_argument("--floor", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor:
        floor(int(options.floor[0]), options.floor[1], int(options.floor[2]))
        return
    program = [sys.executable, "-m", "omniperf"]
    server = Server()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory(prefix="omniperf-overhead-") as scratch:
        home = Path(scratch)
        task = home / "task"
        shutil.copytree(shipped("tasks") / "quickstart", task)
        text = (task / "task.yaml").read_text()
        (task / "task.yaml").write_text("\n".join(x for x in text.splitlines() if "limits:" not in x) + f"\n{LIMITS}\n")
        here = str(Path(__file__).resolve().parent.parent)
        env = {"PATH": os.environ["PATH"], "HOME": scratch, "PYTHONPATH": here, "LANG": "C.UTF-8"}
        env |= {"ANTHROPIC_API_KEY": "sk-dummy", "OPENAI_API_KEY": "sk-dummy"}

        def run(route: str, steps: int, *, commits: bool = False) -> dict[str, Any]:
            agent, _, _, more = ROUTES[route]
            server.load(route, script(steps, commits=commits))
            base = url if agent == "anthropic" else f"{url}/v1"
            arguments = ["run", str(task), "--agent", agent, "--model", "m", "--base-url", base, *more, "--json"]
            found = measured([*program, *arguments], env, home)
            assert len(server.times) == steps + 1, (route, steps, len(server.times))
            return {**found, "gaps": server.gaps, "bytes": server.biggest}

        def bare(steps: int) -> dict[str, Any]:
            server.load("openai chat", script(steps, commits=False))
            command = [sys.executable, "-m", "benchmarks.overhead", "--floor", str(server.server_address[1])]
            found = measured([*command, "/v1/chat/completions", str(steps)], env, home)
            return {**found, "gaps": server.gaps, "bytes": server.biggest}

        run("openai chat", 1)  # proves the task once and fills every cache
        rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
        starts: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name in ("pass", "import openai", "import anthropic"):
                starts.setdefault(name, []).append(measured([sys.executable, "-c", name], env, home)["wall"])
            starts.setdefault("omniperf --help", []).append(measured([*program, "--help"], env, home)["wall"])
            for steps in options.steps:
                rows.setdefault(("floor", steps), []).append(bare(steps))
                for route in ROUTES:
                    rows.setdefault((route, steps), []).append(run(route, steps))
            rows.setdefault(("anthropic, edit and commit", 50), []).append(run("anthropic", 50, commits=True))
    report(starts, rows)


def report(starts: dict[str, list[float]], rows: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    """Print the tables: minima and medians over the rounds, gaps of the round with the least."""
    print("| start | min s | median s |\n|---|---:|---:|")
    for name, values in starts.items():
        print(f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} |")
    print("\n| route | steps | wall s, min | median | CPU s, min | RSS MB | gap ms, median | first fifth | last fifth "
          "| ratio | last request |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    for (route, steps), found in rows.items():
        best = min(found, key=lambda row: statistics.median(row["gaps"]))
        gaps = best["gaps"]
        fifth = max(1, len(gaps) // 5)
        first, last = statistics.median(gaps[:fifth]), statistics.median(gaps[-fifth:])
        walls = [row["wall"] for row in found]
        print(
            f"| {route} | {steps} | {min(walls):.2f} | {statistics.median(walls):.2f} "
            f"| {min(row['cpu'] for row in found):.2f} | {max(row['rss'] for row in found):.0f} "
            f"| {statistics.median(gaps):.2f} | {first:.2f} | {last:.2f} | {last / first:.2f} | {best['bytes']:,} B |"
        )
    print("\nCPU ms per step, from minima:")
    for route in dict.fromkeys(name for name, _ in rows):
        least = {steps: min(row["cpu"] for row in found) for (name, steps), found in rows.items() if name == route}
        counts = sorted(least)
        parts = [
            f"{before} to {after}: {1000 * (least[after] - least[before]) / (after - before):.1f}"
            for before, after in pairwise(counts)
        ]
        if parts:
            print(f"- {route}: {'; '.join(parts)}")


if __name__ == "__main__":
    main()
