"""A toy repository with a command line and an HTTP server, and a load generator for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.measure.bench import Bench, open_bench
from omniperf.results.events import ignore
from omniperf.tasks.load import load_task
from tests.conftest import FAST, SLOW, TEST, git, write

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.settings import Settings

CLI = """\
import os, random, sys, time
from toy.order import distinct

rng = random.Random(int(os.environ["OMNIPERF_SEED"]))
items = [rng.randrange(10**9) for _ in range(int(sys.argv[1]))]
print("ready", flush=True)
began = time.perf_counter()
found = distinct(items)
print(len(found), sum(found))
print("Throughput:", len(found) / (time.perf_counter() - began))
"""
SERVER = """\
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from toy.order import distinct


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        items = self.rfile.read(int(self.headers["Content-Length"])).decode().split()
        body = " ".join(distinct(items)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print("listening", file=sys.stderr, flush=True)
    server.serve_forever()
"""
LOAD = """\
import hashlib, http.client, json, os, random, time

rng = random.Random(int(os.environ["OMNIPERF_SEED"]))
connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["OMNIPERF_PORT"]), timeout=10)
digest, completed, times = hashlib.sha256(), 0, []
for number in range(8):
    items = " ".join(str(rng.randrange(10**9)) for _ in range(1500))
    began = time.perf_counter()
    connection.request("POST", "/", items)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status == 200:
        completed += 1
        digest.update(body)
    if number >= 2:  # the first two warm up
        times.append(time.perf_counter() - began)
report = {"completed": completed, "outputs": digest.hexdigest(), "throughput": len(times) / sum(times)}
print(json.dumps({**report, "latency_ms": {"p50": 1000 * sorted(times)[len(times) // 2]}}))
"""
TASK = """\
schema: omniperf/task/v1
id: toy
title: Speed up distinct
repo: {{path: repo, base: {base}, human: {human}}}
environment: {{pythonpath: ["."]}}
targets: ["toy/*.py"]
{rest}
"""
TESTS = 'tests: ["python -m unittest -q tests.test_order"]\n'
COMMAND = 'workload: {command: "python -m toy.cli 2500"}\nmetrics:\n- {name: latency, primary: true}\n' + (
    "- {name: throughput, unit: items/s, direction: higher, from: {regex: 'Throughput: ([0-9.]+)'}}\n"
)
SERVICE = 'workload: {serve: "python -m toy.server {port}", load: load.py}\nmetrics:\n' + (
    "- {name: throughput, unit: req/s, direction: higher, primary: true}\n"
    "- {name: p50, unit: ms, guard: 1.5, from: {json: latency_ms.p50}}\n"
    "- {name: startup, guard: 3.0}\n"
)
MEASURE = "measure: {max_minutes: 2, confidence: 0.95, min_effect: 0.5}\n"


def toy(tmp_path: Path, settings: Settings, rest: str, load: str = LOAD, files: dict[str, str] | None = None) -> Bench:
    """A bench of the toy task; `rest` is the YAML of its workload and metrics, and of its tests if not the usual."""
    folder = tmp_path / "tasks" / "toy"
    repo = folder / "repo"
    repo.mkdir(parents=True)
    git(repo, "init", "-q")
    write(repo, {"toy/__init__.py": "", "toy/order.py": SLOW, "tests/__init__.py": "", "tests/test_order.py": TEST})
    write(repo, {"toy/cli.py": CLI, "toy/server.py": SERVER, **(files or {})})
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "base")
    base = git(repo, "rev-parse", "HEAD")
    write(repo, {"toy/order.py": FAST})
    git(repo, "commit", "-q", "-a", "-m", "use a dict")
    human = git(repo, "rev-parse", "HEAD")
    rest = rest if "tests:" in rest else rest + TESTS
    write(folder, {"load.py": load, "task.yaml": TASK.format(base=base, human=human, rest=rest)})
    return open_bench(load_task(str(folder), settings), settings, ignore)
