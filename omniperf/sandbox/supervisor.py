"""The process inside a sandbox that runs commands for the harness, one at a time, each with its limits.

It runs on the task's Python, where OmniPerf is not installed: standard library only. Requests come as JSON lines on
standard input, replies go as JSON lines to what was standard output; a closed input ends it, and with it the sandbox.

Request: {"command": str, "cwd": str, "env": {..}, "seconds": float, "output_bytes": int, "kept_bytes": int,
"memory_bytes": int}. Reply: {"exit_code": int, "output": str (latin-1 of the bytes), "dropped": int,
"stopped_by": "" | "time" | "output" | "memory", "seconds": float}.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
SCRATCH = ("/tmp", "/dev/shm", "/home/agent")  # noqa: S108 - folders in memory, which are an isolated sandbox's own
SHELL = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


def memory_bytes(isolated):
    """What a command's processes and temporary folders take of memory, in bytes; shared pages count once."""
    private, shared = 0, 0
    for pid in others(isolated):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as status:
            fields = dict(line.split(b":", 1) for line in status if line.startswith((b"RssAnon", b"RssShmem")))
            private += int(fields.get(b"RssAnon", b"0 kB").split()[0]) * 1024
            shared = max(shared, int(fields.get(b"RssShmem", b"0 kB").split()[0]) * 1024)
    kept = 0
    for folder in SCRATCH if isolated else ():
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            kept += (found.f_blocks - found.f_bfree) * found.f_frsize
    return private + max(shared, kept)


def others(isolated):
    """The processes a command may have left: all others of the pid namespace, or all descendants."""
    me = os.getpid()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    if isolated:
        return [pid for pid in pids if pid not in (1, me)]
    parents = {}
    for pid in pids:
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/stat", "rb") as stat:
            parents[pid] = int(stat.read().rpartition(b")")[2].split()[1])
    found, frontier = [], [me]
    while frontier:
        frontier = [pid for pid, parent in parents.items() if parent in frontier]
        found += frontier
    return found


def end_all(isolated):
    """Kill everything a command left, and what that starts meanwhile, until nothing is left."""
    while True:
        if isolated:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)  # everything in the pid namespace but its first process and this one
        else:
            for pid in others(False):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        if isolated or not others(False):
            return


class Kept:
    """The first and the last bytes of an output; the middle of a long one is dropped."""

    def __init__(self, limit):
        self.half, self.head, self.tail, self.total = max(1, limit // 2), bytearray(), bytearray(), 0

    def add(self, data):
        self.total += len(data)
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[max(0, room) :]
        if len(self.tail) > 2 * self.half:
            del self.tail[: -self.half]

    def result(self):
        tail = self.tail[-self.half :]
        dropped = self.total - len(self.head) - len(tail)
        middle = b"\n[... %d bytes left out ...]\n" % dropped if dropped else b""
        return bytes(self.head) + middle + bytes(tail), dropped


def run(request, isolated, requests):
    """Run one command to its end or its limit, then end whatever it left behind.

    None when the harness went away meanwhile, which closes the other end of `requests`.
    """
    started = time.monotonic()
    deadline = started + request["seconds"]
    kept, stopped_by, exit_code = Kept(request["kept_bytes"]), "", -signal.SIGKILL
    try:
        process = subprocess.Popen(
            [SHELL, "-c", request["command"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=request["cwd"],
            env=request["env"],
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return {"exit_code": 126, "output": str(error), "dropped": 0, "stopped_by": "", "seconds": 0.0}
    pipe, alive = process.stdout.fileno(), os.pidfd_open(process.pid)
    os.set_blocking(pipe, False)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(alive, select.POLLIN)
    poll.register(requests, 0)  # only its hang-up is waited for
    next_look = started
    while not stopped_by:
        now = time.monotonic()
        if now >= deadline:
            stopped_by = "time"
            break
        # Wakes at once for output or exit; the tenth of a second only paces the look at memory.
        events = dict(poll.poll(1000 * min(0.1, deadline - now)))
        if requests in events:
            stopped_by = "harness"
        elif pipe in events:
            data = read(pipe)
            if data:
                kept.add(data)
                if kept.total > request["output_bytes"]:
                    stopped_by = "output"
            elif data == b"":
                poll.unregister(pipe)
        if alive in events and pipe not in events:
            break
        if alive in events:  # ended with output still in the pipe, which a child it left may keep open for ever
            while kept.total <= request["output_bytes"] and (data := read(pipe)):
                kept.add(data)
            break
        if now >= next_look:
            next_look = now + 0.1
            if memory_bytes(isolated) > request["memory_bytes"]:
                stopped_by = "memory"
    if stopped_by:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    exit_code = process.wait()
    end_all(isolated)
    os.close(alive)
    process.stdout.close()
    if stopped_by == "harness":
        return None
    output, dropped = kept.result()
    return {
        "exit_code": exit_code,
        "output": output.decode("latin-1"),
        "dropped": dropped,
        "stopped_by": stopped_by,
        "seconds": time.monotonic() - started,
    }


def read(pipe):
    """What the pipe holds now: bytes, b"" at its end, None when it is empty."""
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return None


def main():
    """Serve requests until the input closes."""
    isolated = sys.argv[1] == "isolated"
    prctl = ctypes.CDLL(None).prctl
    # A command of the same user could open the channel through /proc otherwise, or trace this process.
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not isolated:
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Commands must not be able to reach the channel: it moves off the standard descriptors and is not inherited.
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    # A parent of the namespace must not die of a signal that a command sends it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    replies.write(b'{"ready": true}\n')
    replies.flush()
    while line := requests.readline():
        reply = run(json.loads(line), isolated, requests.fileno())
        if reply is None:
            break
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()
    end_all(isolated)


if __name__ == "__main__":
    main()
