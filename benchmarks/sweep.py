"""Attempts a second and memory of a whole sweep, beside mini-swe-agent's batch mode.

    python -m benchmarks.sweep [--attempts 1000] [--jobs 8] [--write]

Both run batches of a tenth, a half and all of the attempts, in turns, on the same two cores, and ask the same model
server, a process on those cores that answers at once: three turns with one command each, and the end. The commands are
the same; one writes a file. An attempt of ours has a sealed worktree, a sandbox and a patch of its own and is not
verified; one of mini-swe-agent's runs its commands in a folder of the host (its environment `local`). Both write what
they did. Start-up counts; what is made once per task, and the other's cache of its list of tasks, is there before.

Memory is the proportional set size (pages that processes share count once) of all processes of a batch, looked at every
two seconds; of processes that may not be looked at, what they share with nobody. mini-swe-agent is found where
`python -m tests.clients.install mini-swe-agent-2.4.6` puts it. `--write` makes benchmarks/evidence/sweep.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omniperf.shipped import shipped
from tests.clients import install

HERE = Path(__file__).resolve().parent
MINI = "mini-swe-agent-2.4.6"
COMMANDS = ("echo hi", "echo '# noted' > logtally/notes.py", "echo hi")
ENDS = {
    "omniperf": ("finish", {"summary": "done"}),
    "mini": ("bash", {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}),
}
LIMITS = "limits: {steps: 1000, minutes: 60, usd: 100000, tokens: 100000000000}"
TURN, MODEL = re.compile(rb'"role":\s*"assistant"'), re.compile(rb'"model":\s*"(omniperf|mini)"')
LENGTH, STREAM = re.compile(rb"(?i)\r\ncontent-length: (\d+)"), re.compile(rb'"stream":\s*true')
LOOK = 2.0  # seconds between looks at the memory, each of which takes time of what is measured


def replied(body: bytes) -> bytes:
    """The whole HTTP response to a request of the Chat Completions API, from how many turns it holds."""
    named, done = MODEL.search(body), len(TURN.findall(body))
    client = named[1].decode() if named else "mini"
    tool, arguments = ("bash", {"command": COMMANDS[done]}) if done < len(COMMANDS) else ENDS[client]
    call = {"id": f"call_{done}", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
    about = {"id": f"chat-{done}", "created": 1_700_000_000, "model": client}
    used = {"prompt_tokens": len(body) // 4, "completion_tokens": 20, "total_tokens": len(body) // 4 + 20}
    said = {"role": "assistant", "content": "step"}
    if not STREAM.search(body):
        choice = {"index": 0, "message": {**said, "tool_calls": [call]}, "finish_reason": "tool_calls"}
        whole = {**about, "object": "chat.completion", "choices": [choice], "usage": used}
        return framed(json.dumps(whole).encode(), b"application/json")
    deltas: list[tuple[dict[str, Any], str | None]] = [({**said, "tool_calls": [{**call, "index": 0}]}, None)]
    deltas.append(({}, "tool_calls"))
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": stop}]} for delta, stop in deltas]
    chunks.append({"choices": [], "usage": used})
    lines = [json.dumps({**about, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    return framed("".join(f"data: {line}\n\n" for line in (*lines, "[DONE]")).encode(), b"text/event-stream")


def framed(body: bytes, kind: bytes) -> bytes:
    """A whole HTTP response."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body


async def serve(listener: socket.socket) -> None:
    """The model server."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                writer.write(replied(await reader.readexactly(int(length[1]) if length else 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, sock=listener, limit=2**22, backlog=256)
    await server.serve_forever()


@dataclass(frozen=True)
class Batch:
    """What a batch took: seconds of wall and CPU, MiB at the peak; and the host's load average before it."""

    attempts: int
    wall: float
    cpu: float
    memory: float
    load: float

    @property
    def rate(self) -> float:
        """Attempts a second."""
        return self.attempts / self.wall


def memory(root: int) -> int:
    """Bytes that a process and all below it take, each page they share counted once."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        pending += children.get(pid, [])
        for file, mark in (("smaps_rollup", "Pss:"), ("status", "RssAnon:")):
            try:
                lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(mark))
            break
    return total


def ran(command: list[str], env: dict[str, str], cwd: Path, attempts: int) -> Batch:
    """Run a batch and look at it. Raises SystemExit where it fails."""
    load, peak, over, started = os.getloadavg()[0], 0, threading.Event(), time.perf_counter()
    with (cwd / "output").open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

        def look() -> None:
            nonlocal peak
            while not over.wait(LOOK):
                peak = max(peak, memory(process.pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        over.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(cwd / 'output').read_text()[-4000:]}")
    return Batch(attempts, wall, usage.ru_utime + usage.ru_stime, peak / 2**20, load)


def ours(home: Path, url: str, attempts: int, jobs: int) -> Batch:
    """A sweep in fresh folders, seen to have made every patch."""
    results = home / "results"
    shutil.rmtree(results, ignore_errors=True)
    contender = {"agent": "openai", "options": {"model": "omniperf", "api": "chat", "base_url": url}}
    sweep = {"schema": "omniperf/sweep/v1", "tasks": [str(home / "task")], "agents": [contender], "verify": False}
    (home / "sweep.yaml").write_text(json.dumps({**sweep, "attempts": attempts}))
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(HERE.parent), "LANG": "C.UTF-8"}
    env |= {"OPENAI_API_KEY": "sk-dummy", "OMNIPERF_CACHE": str(home / "cache")}
    folders = ("--results", str(results), "--worktrees", str(home / "worktrees"), "--json")
    command = [sys.executable, "-m", "omniperf", "sweep", str(home / "sweep.yaml"), "--jobs", str(jobs), *folders]
    batch = ran(command, env, home, attempts)
    patches = [file for file in results.glob("*/*/*/model_patch.diff") if b"+# noted" in file.read_bytes()]
    found = len(list(results.glob("*/*/*/result.json")))
    assert len(patches) == found == attempts, (len(patches), found, attempts)
    return batch


def theirs(home: Path, url: str, attempts: int, jobs: int) -> Batch:
    """A batch of mini-swe-agent, seen to have submitted everything."""
    program = install.home() / MINI / "bin" / "mini-extra"
    output, tasks = home / "mini", home / "tasks"
    shutil.rmtree(output, ignore_errors=True)
    shutil.rmtree(tasks, ignore_errors=True)
    tasks.mkdir()
    rows = [{"instance_id": f"task-{n}", "problem_statement": "Make the report faster."} for n in range(attempts)]
    (tasks / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    env = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8"}
    env |= {"OPENAI_API_KEY": "sk-dummy", "OPENAI_API_BASE": url, "OPENAI_BASE_URL": url, "HF_HUB_OFFLINE": "1"}
    env |= {"MSWEA_CONFIGURED": "true", "MSWEA_COST_TRACKING": "ignore_errors", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    where = f"environment.cwd={home / 'library'}"
    chosen = ["--subset", str(tasks), "--split", "train", "-m", "openai/mini", "--environment-class", "local"]
    command = [
        str(program),
        "swebench",
        *chosen,
        "-c",
        "swebench.yaml",
        "-c",
        where,
        "-w",
        str(jobs),
        "-o",
        str(output),
    ]
    batch = ran(command, env, home, attempts)
    texts = [file.read_text() for file in output.glob("*/*.traj.json")]
    submitted = sum(json.loads(text)["info"]["exit_status"] == "Submitted" for text in texts)
    assert submitted == attempts, (submitted, attempts, (home / "output").read_text()[-2000:])
    return batch


def table(batches: dict[str, list[Batch]], jobs: int) -> str:
    """The figures, and what they say."""
    when, cores = datetime.now(UTC), len(os.sched_getaffinity(0))
    rows = [f"{when:%Y-%m-%d %H:%M} UTC, {cores} cores, {jobs} at once.\n"]
    rows.append("| | attempts | wall s | attempts/s | CPU s | peak memory MiB | load before |")
    rows.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, all_of_them in batches.items():
        for one in all_of_them:
            taken = f"{one.wall:.1f} | {one.rate:.1f} | {one.cpu:.1f} | {one.memory:.0f} | {one.load:.1f}"
            rows.append(f"| {name} | {one.attempts} | {taken} |")
    said = []
    first, second = list(batches.values())
    for one, other in zip(first, second, strict=True):
        said.append(f"{one.attempts} attempts: {one.rate / other.rate:.2f} times the attempts a second")
    return "\n".join(rows) + "\n\n" + "; ".join(said) + ".\n"


def main() -> None:
    """Run both in turns, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--write", action="store_true", help="write benchmarks/evidence/sweep.md")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(socket.socket(fileno=given.serve)))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    serving = [sys.executable, "-m", "benchmarks.sweep", "--serve", str(listener.fileno())]
    server = subprocess.Popen(serving, pass_fds=[listener.fileno()])
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        with tempfile.TemporaryDirectory(prefix="omniperf-sweep-") as scratch:
            home = Path(scratch)
            shutil.copytree(shipped("tasks") / "quickstart", home / "task")
            shutil.copytree(home / "task" / "library", home / "library")
            text = re.sub(r"^limits:.*$", LIMITS, (home / "task" / "task.yaml").read_text(), flags=re.MULTILINE)
            (home / "task" / "task.yaml").write_text(text)
            each = {"OmniPerf": ours, "mini-swe-agent": theirs}
            for run in each.values():
                run(home, url, 1, given.jobs)
            batches: dict[str, list[Batch]] = {name: [] for name in each}
            for share in (10, 2, 1):
                for name in list(batches) if share != 2 else reversed(batches):
                    batches[name].append(each[name](home, url, max(1, given.attempts // share), given.jobs))
                    print(name, batches[name][-1], file=sys.stderr)
    finally:
        server.kill()
        server.wait()
    print(found := table(batches, given.jobs))
    if given.write:
        (HERE / "evidence" / "sweep.md").write_text(f"# A sweep\n\n`python -m benchmarks.sweep`\n\n{found}")


if __name__ == "__main__":
    main()
