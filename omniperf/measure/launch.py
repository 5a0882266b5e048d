"""Waits in a sandbox for the word to become a command. Standard library only: it runs on the task's Python.

It reads one line of JSON, {"argv": [str], "env": {..}, "port": int | null}, and says `ready`. At `probe` it says `open`
once the port of its loopback takes a connection; at `run` it becomes the command, which has nothing of this process but
its output and its errors.
"""

import json
import os
import socket
import sys
import time


def until_open(port):
    """Return when a connection was taken. There is nothing to wait on but another try."""
    while True:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.001)


def main():
    """Do as told."""
    requests = os.fdopen(os.dup(0), "rb", 0)
    config = json.loads(requests.readline())
    os.write(1, b"ready\n")
    while (line := requests.readline()) == b"probe\n":
        until_open(config["port"])
        os.write(1, b"open\n")
    if line != b"run\n":  # the harness went away
        return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvpe(config["argv"][0], config["argv"], {**os.environ, **config["env"]})
    except OSError as error:
        sys.exit(f"{config['argv'][0]}: {error.strerror}")


if __name__ == "__main__":
    main()
