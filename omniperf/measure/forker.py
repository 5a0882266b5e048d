"""The zygote: a process that has imported trusted packages once and forks a confined worker for every sample.

It runs inside a sandbox that shows both trees under /arms. No code of a tree is ever imported here: a child first takes
namespaces of its own in which its tree is at /workspace, the other one is gone and everything writable is new, gives up
every right, and only then becomes the worker. Standard library only.

Standard input is a sequenced-packet socket. The first message is the configuration {"preload": [module], "folders":
[path], "cores": [int], "worker": path, "confined": path, "scratch": bytes}; the answer is {"ready": true} or {"error":
str, "module": str}. Then every message is {"arm": {target: [source, writable]}, "confine": {...}} with three
descriptors (requests, replies, errors) and is answered by a pidfd of the first process of the child's namespace, which
ends by writing the worker's exit status to `errors` as the last line.
"""

import ctypes
import gc
import importlib
import json
import os
import socket
import sys
import threading
import types

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID = 0x20000, 0x8000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_PRIVATE = 1 << 18
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 4, 38, 47, 4
CAPABILITY_VERSION_3 = 0x20080522
SCRATCH = ("/tmp", "/dev/shm", "/home/agent")  # noqa: S108 - the child's own
libc = ctypes.CDLL(None, use_errno=True)


def checked(result):
    """What a call of the C library returned. Raises OSError where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source, target, kind=None, flags=0, options=None):
    """Make a mount. Raises OSError."""
    encoded = (text.encode() if text is not None else None for text in (source, target, kind))
    checked(libc.mount(*encoded, ctypes.c_ulong(flags), options.encode() if options else None))


def enclose(arm, scratch):
    """Make the view of a fresh sandbox: the arm's folders at their places, nothing of the other's, nothing left."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    for target, (source, writable) in arm.items():
        mount(source, target, None, MS_BIND | MS_REC)
        if not writable:
            flags = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
            mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)
    mount("tmpfs", "/arms", "tmpfs", MS_RDONLY, "size=4k,mode=755")
    for folder in SCRATCH:
        mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"size={scratch},mode=1777")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.chdir("/workspace")


def give_up_rights():
    """Drop all capabilities, for good; what was root has left that user already."""
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    checked(libc.capset(header, nothing))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no worker can trace the process that it is a child of


def child(request, pipes, channel, config, confined, worker):
    """The short life between zygote and worker: a first process in namespaces of its own, and the worker below it."""
    checked(libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC))
    first = os.fork()
    if first:
        socket.send_fds(channel, [b"{}"], [os.pidfd_open(first)])
        os._exit(0)
    try:
        channel.close()
        enclose(request["arm"], config["scratch"])
        confined.confine(request["confine"])
        give_up_rights()
    except OSError as error:
        os.write(pipes[2], f"the child of the zygote could not be confined: {error}\n".encode())
        os._exit(1)
    pid = os.fork()
    if pid == 0:
        for standard, pipe in enumerate(pipes):
            os.dup2(pipe, standard)
            os.close(pipe)
        reseed()
        worker.main()
        os._exit(0)
    for pipe in (0, *pipes[:2]):
        os.close(pipe)
    while True:  # as the first process of its namespace it inherits whatever the worker leaves behind
        ended, status = os.wait()
        if ended == pid:
            os.write(pipes[2], f"\n{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)


def reseed():
    """Generators that a fresh interpreter seeds from the system; Python's own does so at every fork."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def preload(config):
    """Import the packages as a worker would find them, without its site's start-up files; why that failed, or None.

    What an import that failed has left behind is in every child, so the caller must try again without it.
    """
    before = list(sys.path)
    sys.path += config["folders"]
    for name in config["preload"]:
        try:
            importlib.import_module(name)
        except Exception as error:
            return {"error": f"{name}: {type(error).__name__}: {error}", "module": name}
        torch = sys.modules.get("torch")
        if threading.active_count() > 1:
            return {"error": f"importing {name} starts a thread", "module": name}
        if hasattr(torch, "cuda") and getattr(torch.cuda, "_initialized", False):
            return {"error": f"importing {name} initialises CUDA", "module": name}
    sys.path[:] = before
    sys.path_importer_cache.clear()
    gc.collect()
    return None


def loaded(path, name):
    """A script of ours as a module that nobody can import."""
    module = types.ModuleType(name)
    with open(path, "rb") as source:
        exec(compile(source.read(), path, "exec"), module.__dict__)
    return module


def main():
    """Preload, then fork until the channel closes."""
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    channel = socket.socket(fileno=os.dup(0))
    config = json.loads(channel.recv(1 << 20))
    confined, worker = loaded(config["confined"], "confined"), loaded(config["worker"], "worker")
    os.sched_setaffinity(0, config["cores"])
    failed = preload(config)
    if failed:
        channel.send(json.dumps(failed).encode())
        return
    channel.send(b'{"ready": true}')
    while True:
        message, pipes, _, _ = socket.recv_fds(channel, 1 << 16, 3)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            try:
                child(json.loads(message), pipes, channel, config, confined, worker)
            except BaseException as error:
                os.write(pipes[2], f"the zygote could not make a child: {error}\n".encode())
                os._exit(1)
        for pipe in pipes:
            os.close(pipe)
        if os.waitpid(pid, 0)[1]:
            channel.send(b"{}")  # without the descriptor that is waited for


if __name__ == "__main__":
    main()
