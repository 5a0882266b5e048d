"""A process that takes supervisors into sandboxes: it has imported what they need, so nothing inside has to start.

Standard library only, on the harness's Python, under `-I -S`, with this folder last of its path. It holds no secret: it
is a program of its own with an empty environment, it reads no request itself, and what it was started with is wiped.
Standard input is a sequenced-packet socket, which the harness and all that it forks may share; when nobody holds it any
more, this ends.

A request is {"bwrap": path, "group": path or "", "cores": [int], "confine": {...}}, marshalled, with the descriptors of
the supervisor's requests, replies and errors, of a socket that is told how it went, of bubblewrap's options, and of
namespaces that the sandbox joins. The answer there is `in` with a pidfd of the supervisor, `walls` when bubblewrap
failed, which has then said why on `errors`, or why nobody could enter.

For every request bubblewrap builds the walls, and runs `cat` between them. Once `cat` answers, they are finished. Then
a fork takes the namespaces of `cat`, but for that of processes: the supervisor becomes the first process of a new one,
in which it is alone, and `cat` ends. No program is executed and no file is read on the way in, so nothing that lies in
the sandbox can run before its supervisor is confined.
"""

import _signal as signal  # type: ignore[import-not-found]
import _socket
import ctypes
import fcntl
import gc
import marshal
import os
import struct
import sys

CLONE_NEWPID = 0x20000000
NS_GET_USERNS = 0xB701
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
CAPABILITY_VERSION = 0x20080522
CAPABILITIES = 64  # more than any kernel has
JOINED = ("net", "ipc", "uts", "cgroup", "mnt")  # the last decides what paths mean
COVERED = ("sys", "sysrq-trigger", "irq", "bus")  # of /proc, as bubblewrap does
MOST_DESCRIPTORS = 16
libc = ctypes.CDLL(None, use_errno=True)


def checked(result):
    """What a call of the C library returned. Raises OSError where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def is_same(one, other):
    """Whether two descriptors are of one namespace."""
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def join(namespace, own):
    """Enter a namespace, unless it is that of this process already. Raises OSError."""
    if not is_same(namespace, own):
        checked(libc.setns(namespace, 0))


def built(request, options, errors):
    """Have bubblewrap build the walls; the pid of `cat` between them, and the pipes to it. None where it failed.

    It ends with this process, since bubblewrap does and takes it along.
    """
    told, tell = os.pipe()
    holding, hold = os.pipe()
    answered, answer = os.pipe()
    for descriptor in (tell, options):
        os.set_inheritable(descriptor, True)
    os.posix_spawn(
        request["bwrap"],
        ["bwrap", "--info-fd", str(tell), "--as-pid-1", "--args", str(options), "--", "/bin/cat"],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, at, to) for to, at in enumerate((holding, answer, errors))],
    )
    for descriptor in (tell, holding, answer, options):
        os.close(descriptor)
    said = b""
    while part := os.read(told, 4096):
        said += part
    if not answers(hold, answered):
        return None
    return int(said.partition(b'"child-pid":')[2].partition(b",")[0].strip(b" \n}")), hold, answered


def answers(to_cat, from_cat):
    """Whether `cat` is there."""
    try:
        os.write(to_cat, b"!")
    except BrokenPipeError:
        return False
    return os.read(from_cat, 1) == b"!"


def label(pid):
    """The label that a security module of the host gave a process, if any."""
    try:
        with open(f"/proc/{pid}/attr/current", "rb") as current:
            return current.read()
    except OSError:
        return b""


def enter(pid):
    """Take the namespaces of a process but for its processes; a new one of those is for what is forked from here.

    Returns what to find at `/` there, and the user namespace to end in. Raises OSError.
    """
    inside = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("user", *JOINED)}
    own = {kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", *JOINED)}
    root = os.stat(f"/proc/{pid}/root/.")
    if is_same(inside["mnt"], own["mnt"]):
        raise OSError("the sandbox has no mounts of its own")
    if label(pid) != label("self"):
        raise OSError("the host confines what bubblewrap starts, which would not hold for what enters")
    # An ordinary user's mounts belong to a user namespace around the one in which commands run.
    join(fcntl.ioctl(inside["mnt"], NS_GET_USERNS), own["user"])
    for kind in JOINED:
        join(inside[kind], own[kind])
    checked(libc.unshare(CLONE_NEWPID))
    return root, inside["user"]


def mount(source, target, kind, flags):
    """Make a mount. Raises OSError."""
    checked(libc.mount(source, target.encode(), kind, ctypes.c_ulong(flags), None))


def own_proc():
    """Lay the view of this namespace of processes over bubblewrap's, with the same covers."""
    safe = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount(b"proc", "/proc", b"proc", safe)
    for name in COVERED:
        if os.path.exists(place := f"/proc/{name}"):
            mount(place.encode(), place, None, MS_BIND)
            mount(None, place, None, MS_REMOUNT | MS_BIND | MS_RDONLY | safe)


def give_up_rights():
    """Drop all capabilities, for good."""
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    checked(libc.capset(struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def become_supervisor(root, user, pipes, tell, confined, config):
    """Confine this process, the first of its namespace, and tell the harness. Raises OSError."""
    found = os.stat("/")
    if os.getpid() != 1 or (found.st_dev, found.st_ino) != (root.st_dev, root.st_ino):
        raise OSError("this is not the inside of the sandbox")
    own_proc()
    os.setsid()
    os.chdir("/workspace")
    for standard, pipe in enumerate(pipes):
        os.dup2(pipe, standard)
    own_user = os.open("/proc/self/ns/user", os.O_RDONLY)
    join(user, own_user)
    close_all_but(tell)
    for capability in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    confined.confine(config)
    give_up_rights()
    if os.getuid() == 0:
        raise OSError("this is still root")
    myself = os.pidfd_open(1)
    told(tell, b"in", myself)
    os.close(myself)
    os.close(tell)


def close_all_but(kept):
    """Close every descriptor but the standard ones and that one."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor != kept:
            try:
                os.close(descriptor)
            except OSError:  # that of the list itself
                pass


def told(tell, what, *descriptors):
    """Tell the harness how it went."""
    channel = _socket.socket(fileno=tell)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
    channel.sendmsg([what], ancillary if descriptors else [])
    channel.detach()


def serve(taken, confined, supervisor):
    """Wait for a request, say so, and fulfil it."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    space = _socket.CMSG_SPACE(4 * MOST_DESCRIPTORS)
    channel = _socket.socket(fileno=0)
    message, ancillary, _, _ = channel.recvmsg(1 << 16, space, _socket.MSG_CMSG_CLOEXEC)
    channel.detach()
    if not message:
        return
    os.write(taken, b"!")
    os.close(taken)
    os.close(0)
    os.open(os.devnull, os.O_RDWR)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    received = b"".join(data for _, _, data in ancillary)
    *pipes, tell, options = struct.unpack_from("5i", received)
    joins = struct.unpack_from(f"{len(received) // 4 - 5}i", received, 20)
    try:
        request = marshal.loads(message)
        os.sched_setaffinity(0, request["cores"])
        if request["group"]:
            with open(f"{request['group']}/cgroup.procs", "w") as group:
                group.write("0")  # this process
        for namespace in joins:  # the user namespace first: it gives the right to the other
            checked(libc.setns(namespace, 0))
        cat = built(request, options, pipes[2])
        if cat is None:
            told(tell, b"walls")
            return
        root, user = enter(cat[0])
        if not answers(*cat[1:]):
            raise OSError("the sandbox ended meanwhile, and its pid may be another's")
        if os.fork():
            return
        become_supervisor(root, user, pipes, tell, confined, request["confine"])
    except Exception as error:
        told(tell, f"{type(error).__name__}: {error}".encode())
        return
    supervisor.main(isolated=True)


def forget():
    """Wipe what this was started with, close all else, and let nothing be imported any more or looked into."""
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.chdir("/")
    close_all_but(None)
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    for start, end in ((45, 46), (47, 48)):  # of the arguments, of the environment
        ctypes.memset(int(fields[start]), 0, int(fields[end]) - int(fields[start]))
    os.environ.clear()
    for kept in (sys.path, sys.meta_path, sys.path_hooks, sys.argv, sys.orig_argv):
        kept.clear()
    sys.path_importer_cache.clear()


def main():
    """Have one process wait for the next request at any time, until nobody can make one."""
    import confined  # type: ignore[import-not-found]
    import supervisor  # type: ignore[import-not-found]

    forget()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what ends is not waited for
    gc.freeze()
    while True:
        begun, taken = os.pipe()
        if os.fork() == 0:
            os.close(begun)
            try:
                serve(taken, confined, supervisor)
            except Exception as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(0)
        os.close(taken)
        if not os.read(begun, 1):
            return
        os.close(begun)
