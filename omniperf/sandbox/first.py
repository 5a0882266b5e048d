"""The first process of a container: gives the command exactly its environment. Standard library only.

usage: python -I -S first.py ENVIRONMENT become|start PROGRAM [ARGUMENT ...]

It becomes the command, which nothing inside can then kill, or starts it and ends with it, and when standard input
hangs up, as it does when the harness goes. When the first process ends, the kernel ends all others.
"""

import json
import os
import select
import sys
import threading


def end_with_the_harness():
    """End when nobody can write to the command any more."""
    poll = select.poll()
    poll.register(0, 0)  # only its hang-up is waited for
    poll.poll()
    os._exit(137)


def main():
    """Do what the command line says."""
    env, how, command = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
    child = 0 if how == "become" else os.fork()
    if child == 0:
        os.execve(command[0], command, env)
    threading.Thread(target=end_with_the_harness, daemon=True).start()
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


if __name__ == "__main__":
    main()
