"""The process inside a sandbox that runs commands for the harness, one at a time, each with its limits.

It runs on the task's Python, where OmniPerf is not installed: standard library only, and little of it, since each
import delays the start of every sandbox. Requests come on standard input, replies go to what was standard output; a
closed input ends it, and with it the sandbox.

A request is a line with a length and so many bytes, marshalled: {"command": str, "cwd": str, "env": {..}, "seconds":
float, "output_bytes": int, "kept_bytes": int, "memory_bytes": int, "folders": [str], "disk_bytes": int}; `folders` are
those on disk that can be written. A reply is a line with the exit code, what stopped the command (`-`, `time`,
`output`, `memory` or `disk`), its seconds, the bytes of output left out and the bytes of output that follow. The first
line says `ready`.
"""

# Not `signal`: to make the names of its numbers takes nearly as long as to start Python.
import _signal as signal  # type: ignore[import-not-found]
import ctypes
import marshal
import os
import select
import stat
import sys
import time

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
SCRATCH = ("/tmp", "/dev/shm", "/home/agent")  # noqa: S108 - folders in memory, which are an isolated sandbox's own
BLOCK = 512  # bytes, in which the kernel counts what a process writes
INODE = 4096  # bytes of disk that a file takes at least, however short
LEAST_FREE = 256 * 2**20  # bytes: below this no command goes on that has made the disk any fuller
LOOK_SECONDS, WALK_SECONDS = 0.1, 5.0
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)
SHELL = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class Unless:
    """Passes over errors (contextlib's `suppress`, without its import)."""

    def __init__(self, *errors):
        self.errors = errors

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        return kind is not None and issubclass(kind, self.errors)


def memory_bytes(isolated):
    """What a command's processes and temporary folders take of memory, in bytes; shared pages count once."""
    private, shared = 0, 0
    for pid in others(isolated):
        with Unless(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as status:
            fields = dict(line.split(b":", 1) for line in status if line.startswith((b"RssAnon", b"RssShmem")))
            private += int(fields.get(b"RssAnon", b"0 kB").split()[0]) * 1024
            shared = max(shared, int(fields.get(b"RssShmem", b"0 kB").split()[0]) * 1024)
    kept = 0
    for folder in SCRATCH if isolated else ():
        with Unless(OSError):
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
        with Unless(OSError, ValueError), open(f"/proc/{pid}/stat", "rb") as stat:
            parents[pid] = int(stat.read().rpartition(b")")[2].split()[1])
    found, frontier = [], [me]
    while frontier:
        frontier = [pid for pid, parent in parents.items() if parent in frontier]
        found += frontier
    return found


class Disk:
    """What was written to folders on disk since this sandbox began, in bytes. It is looked for only when it can matter.

    A file counts if its inode changed since then, a time that nobody can set; a hard link counts once. Asking the file
    system how full it is costs nothing, so the folders are walked only after it has grown by an eighth of the limit,
    and every few seconds, in case somebody else has made room meanwhile. Files without a name are found at the
    processes that hold them. Where something cannot be looked into, all that the file system has grown by counts.
    """

    def __init__(self, isolated):
        self.isolated, self.began = isolated, time.time()
        self.full = False  # from a look that found too much, until one that does not
        self.seen = self.at_first = None  # what the file systems held when last walked, and before the first command
        self.next_walk = time.monotonic() + WALK_SECONDS

    def too_full(self, folders, limit, sure=False):
        """Whether the sandbox holds more than the limit; `sure` walks in any case."""
        held, free = occupied(folders)
        if self.at_first is None:
            self.at_first = self.seen = held
        now = time.monotonic()
        grown = held - self.at_first
        if free < LEAST_FREE and held > self.seen:
            self.full = True
        elif sure or held - self.seen > limit // 8 or now >= self.next_walk:
            written, whole = self.written(folders)
            self.full = written > limit or (not whole and grown > limit)
            self.seen = held
            self.next_walk = time.monotonic() + max(WALK_SECONDS, 50 * (time.monotonic() - now))
        return self.full

    def written(self, folders):
        """The bytes, and whether everything could be looked into."""
        found, whole, left = {}, True, list(folders)

        def count(status):
            if status.st_ctime >= self.began:
                found[status.st_dev, status.st_ino] = max(INODE, status.st_blocks * 512)

        while left:
            try:
                with os.scandir(left.pop()) as entries:
                    for entry in entries:
                        with Unless(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            count(status)
                            if stat.S_ISDIR(status.st_mode):
                                left.append(entry.path)
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError:
                whole = False
        for pid in others(self.isolated):
            try:
                for descriptor in os.listdir(f"/proc/{pid}/fd"):
                    with Unless(FileNotFoundError):
                        status = os.stat(f"/proc/{pid}/fd/{descriptor}")
                        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                            count(status)
            except (FileNotFoundError, ProcessLookupError):
                pass
            except OSError:
                whole = False
        return sum(found.values()), whole


def occupied(folders):
    """What the file systems of folders hold, and the least that one has free, in bytes."""
    held, free = {}, []
    for folder in folders:
        with Unless(OSError):
            found = os.statvfs(folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            held[found.f_fsid, found.f_blocks] = used + (found.f_files - found.f_ffree) * INODE
            free.append(found.f_bavail * found.f_frsize)
    return sum(held.values()), min(free, default=LEAST_FREE)


def end_all(isolated):
    """Kill everything a command left, and what that starts meanwhile, until nothing is left."""
    while True:
        if isolated:
            with Unless(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)  # everything in the pid namespace but its first process and this one
        else:
            for pid in others(False):
                with Unless(ProcessLookupError, PermissionError):
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


def run(request, isolated, requests, disk):
    """Run one command to its end or its limit, then end whatever it left behind.

    None when the harness went away meanwhile, which closes the other end of `requests`.
    """
    started = time.monotonic()
    deadline = started + request["seconds"]
    kept, stopped_by = Kept(request["kept_bytes"]), ""
    limit = request["folders"], request["disk_bytes"]
    # Where there is too much on disk already, a command can only make room.
    room = disk.too_full(*limit, sure=disk.full)
    shell = [SHELL, "-c", 'ulimit -f 0; exec "$0" -c "$1"', SHELL] if room else [SHELL, "-c"]
    pipe, inside = os.pipe()
    try:
        os.chdir(request["cwd"])
        child = os.posix_spawn(
            SHELL,
            [*shell, request["command"]],
            request["env"],
            file_actions=[(os.POSIX_SPAWN_DUP2, inside, 1), (os.POSIX_SPAWN_DUP2, inside, 2)],
            setsid=True,
            setsigdef=[*IGNORED, signal.SIGPIPE, signal.SIGXFSZ],  # the last two are ignored by every Python
        )
    except (OSError, ValueError) as error:
        os.close(pipe)
        return replied(126, "", started, 0, str(error).encode())
    finally:
        os.close(inside)
    alive = os.pidfd_open(child)
    os.set_blocking(pipe, False)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(alive, select.POLLIN)
    poll.register(requests, 0)  # only its hang-up is waited for
    next_look = started + LOOK_SECONDS  # what is shorter can always make room
    while not stopped_by:
        now = time.monotonic()
        if now >= deadline:
            stopped_by = "time"
            break
        # Wakes at once for output or exit; the tenth of a second only paces the look at memory and disk.
        events = dict(poll.poll(1000 * min(LOOK_SECONDS, deadline - now)))
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
            next_look = now + LOOK_SECONDS
            if memory_bytes(isolated) > request["memory_bytes"]:
                stopped_by = "memory"
            elif not room and disk.too_full(*limit):
                stopped_by = "disk"
    if stopped_by:
        with Unless(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    exit_code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    # By how much the file system has grown says nothing where somebody else has made room meanwhile.
    much = used.ru_oublock * BLOCK > request["disk_bytes"] // 8
    if not stopped_by and not room and disk.too_full(*limit, sure=much):
        stopped_by = "disk"
    end_all(isolated)
    os.close(alive)
    os.close(pipe)
    if stopped_by == "harness":
        return None
    output, dropped = kept.result()
    return replied(exit_code, stopped_by, started, dropped, output)


def replied(exit_code, stopped_by, started, dropped, output):
    """A reply, as the harness reads it."""
    seconds = time.monotonic() - started
    return b"%d %s %.6f %d %d\n" % (exit_code, (stopped_by or "-").encode(), seconds, dropped, len(output)) + output


def read(pipe):
    """What the pipe holds now: bytes, b"" at its end, None when it is empty."""
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return None


def main(isolated):
    """Serve requests until the input closes."""
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
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    replies.write(b"ready\n")
    replies.flush()
    disk = Disk(isolated)
    while line := requests.readline():
        reply = run(marshal.loads(requests.read(int(line))), isolated, requests.fileno(), disk)
        if reply is None:
            break
        replies.write(reply)
        replies.flush()
    end_all(isolated)


if __name__ == "__main__":
    main(sys.argv[1] == "isolated")
