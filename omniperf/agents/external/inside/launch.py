"""Starts a client in the sandbox and watches over it. Standard library only: it runs on the task's Python.

usage: python -I launch.py SOCKET

It listens on a port of the sandbox's own loopback and hands the listening socket to the harness, which accepts on it
outside. Back come four descriptors (the client's input, output and errors, and where to write a watched file) with a
line of length and so much JSON: {"argv": [str], "env": {..}, "files": {path: text}, "watch": path or ""}. The client
gets a session of its own. When it ends, `exit STATUS` goes to the harness (128 and the signal of one that died). When
the harness hangs up, the client is asked to end, and after GRACE this process ends, and with it everything inside.
"""

import json
import os
import select
import signal
import socket
import sys
import time

GRACE = 5.0  # seconds from SIGTERM to the end
LOOK_SECONDS = 0.2


class Watch:
    """Sends a file, whole, as one line of JSON, each time that it has changed and is valid."""

    def __init__(self, path, pipe):
        self.path, self.pipe, self.seen = path, pipe, None

    def look(self):
        """Send it if it is new."""
        try:
            about = os.stat(self.path)
            now = about.st_mtime_ns, about.st_size
            if now == self.seen:
                return
            with open(self.path, encoding="utf-8") as file:
                line = json.dumps(json.load(file)).encode() + b"\n"
        except (OSError, ValueError):  # not there yet, or just being written
            return
        self.seen = now
        while line:
            try:
                line = line[os.write(self.pipe, line) :]
            except OSError:
                return


def exactly(control, length, data):
    """So many bytes from the harness, of which `data` is already here."""
    while len(data) < length:
        more = control.recv(1 << 20)
        if not more:
            sys.exit("the harness went away")
        data += more
    return data


def start(config, descriptors):
    """Start the client; its pid."""
    for path, text in config["files"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(3, 256)
        os.execve(config["argv"][0], config["argv"], {**os.environ, **config["env"]})
    except OSError as error:
        os.write(2, ("%s: %s\n" % (config["argv"][0], error)).encode())
    finally:
        os._exit(127)


def main():
    """Do as told."""
    control = socket.socket(socket.AF_UNIX)
    control.connect(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        socket.send_fds(control, [b"%d\n" % listener.getsockname()[1]], [listener.fileno()])
    data, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 4)
    while b"\n" not in data:
        data = exactly(control, len(data) + 1, data)
    length, _, data = data.partition(b"\n")
    config = json.loads(exactly(control, int(length), data))
    child = start(config, descriptors[:3])
    for descriptor in descriptors[:3]:
        os.close(descriptor)
    watch = Watch(config["watch"], descriptors[3])
    alive = os.pidfd_open(child)
    poll = select.poll()
    poll.register(alive, select.POLLIN)
    poll.register(control, select.POLLIN)
    end = None  # when to give up on a client that was asked to end
    while end is None or time.monotonic() < end:
        ready = dict(poll.poll(1000 * LOOK_SECONDS))
        watch.look()
        if alive in ready:
            break
        if control.fileno() in ready:
            poll.unregister(control)
            end = time.monotonic() + GRACE
            os.killpg(child, signal.SIGTERM)
    else:
        return
    status = os.waitpid(child, 0)[1]
    watch.look()
    code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    try:
        control.sendall(b"exit %d\n" % code)
    except OSError:
        pass


if __name__ == "__main__":
    main()
