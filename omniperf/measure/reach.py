"""Mounted as `sitecustomize` into a process that is observed, never into one that is timed. Standard library only.

OMNIPERF_OBSERVE is `reach:FOLDER` or `profile:FOLDER`. For `reach`, every function that starts, but while a module is
being imported, and every module that is loaded is written to a file of the folder the moment it is first seen, so that
nothing is lost where the process is killed. For `profile`, cProfile's rows are written when the process ends.
"""

import atexit
import json
import os
import signal
import sys
import threading

OPTIMIZED = 0x1  # of code: set for functions, not for bodies of modules and classes


def say(folder, kind, row):
    """Append a row to this process's file."""
    file = os.open(os.path.join(folder, f"{kind}-{os.getpid()}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(file, json.dumps(row).encode() + b"\n")
    finally:
        os.close(file)


def importing(frame):
    """Whether a module is being imported somewhere up the stack."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def watch(folder):
    """Note functions and modules from now on, in every thread."""
    seen = set()

    def on_event(frame, event, _argument):
        code = frame.f_code
        if event != "call" or code in seen or code.co_filename.startswith("<"):
            return
        if code.co_name == "<module>":
            kind = "modules"
        elif not code.co_flags & OPTIMIZED or importing(frame):
            return
        else:
            kind = "functions"
        seen.add(code)
        say(folder, kind, [os.path.abspath(code.co_filename), code.co_name])

    threading.setprofile(on_event)
    sys.setprofile(on_event)


def profile(folder):
    """Profile the main thread until the process ends, also where it is asked to by a signal."""
    import cProfile
    import pstats

    profiler = cProfile.Profile(builtins=False)  # time in C counts for the Python function that spends it

    def write():
        profiler.disable()
        for (file, line, name), (_, calls, own, total, _callers) in pstats.Stats(profiler).stats.items():
            say(folder, "profile", [os.path.abspath(file), line, name, calls, own, total])

    atexit.register(write)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    profiler.enable()


def give_way():
    """Import the sitecustomize that this one hides, if there is one."""
    own = sys.modules["sitecustomize"]
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    del sys.modules["sitecustomize"]
    try:
        __import__("sitecustomize")
    except ImportError:
        sys.modules["sitecustomize"] = own


give_way()
MODE, _, FOLDER = os.environ["OMNIPERF_OBSERVE"].partition(":")
{"reach": watch, "profile": profile}[MODE](FOLDER)
