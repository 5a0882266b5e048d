"""Start a script confined: the first code that runs inside a sandbox. Standard library only.

usage: python -S -s confined.py CONFINEMENT SCRIPT [ARGUMENT ...]

CONFINEMENT is JSON: {"uid": int | null, "rlimits": {NAME: value}, "cores": [int]}. It runs under `-S`, so that no
start-up file of the task's environment (.pth, sitecustomize) runs before root is given up.
"""

import contextlib
import json
import os
import resource
import sys


def confine(config):
    """Give up root and take limits on, for good.

    Process limits bind only an unprivileged user, so a sandbox that was started as root leaves root first.
    """
    if config["uid"] is not None and os.getuid() == 0:
        os.setgroups([])
        os.setgid(config["uid"])
        os.setuid(config["uid"])
    for name, value in config["rlimits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))
    if config["cores"]:
        with contextlib.suppress(OSError):  # the host may have taken a core away since
            os.sched_setaffinity(0, config["cores"])
    os.umask(0o022)


def main():
    """Confine this process, then become the script."""
    confine(json.loads(sys.argv[1]))
    script = sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    with open(script, "rb") as source:
        code = compile(source.read(), script, "exec")
    exec(code, {"__name__": "__main__", "__file__": script, "__builtins__": __builtins__})


if __name__ == "__main__":
    main()
