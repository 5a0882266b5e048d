"""Sandboxes that an ordinary user starts: inside, the supervisor and the commands that it runs are one user."""

import json
import os
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omniperf.measure.clock import resident_mib
from omniperf.sandbox import supervisor
from omniperf.sandbox.bubblewrap import Bubblewrap, why_not
from omniperf.sandbox.loopback import Loopback
from omniperf.sandbox.spec import Allowance, Mount, Spec
from omniperf.sandbox.standing import StandingSandbox

ORDINARY = 1234


def as_ordinary_user(call: Callable[[], object]) -> Any:
    """What `call` returns, as JSON carries it, when somebody who is not root calls it."""
    if os.getuid() != 0:
        return call()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(ORDINARY)
            os.setuid(ORDINARY)
            why_not.cache_clear()
            os.write(writing, json.dumps(call()).encode())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        said = told.read()
    os.waitpid(child, 0)
    assert said, "it failed: see standard error"
    return json.loads(said)


def _python() -> str:
    """A Python for inside, or why an ordinary user cannot have a sandbox here, after a colon."""
    if not os.access(supervisor.__file__, os.R_OK):
        return ":the harness is for root alone"
    if reason := why_not():
        return f":{reason}"
    pythons = (Path(sys.base_prefix) / "bin/python3", Path("/usr/bin/python3"))
    return next((str(python) for python in pythons if os.access(python, os.X_OK)), ":every Python is for root alone")


@pytest.fixture
def spec() -> Iterator[Spec]:
    """A tree and an environment in a folder that anyone may enter, which pytest's own are not."""
    python = as_ordinary_user(_python)
    if python.startswith(":"):
        pytest.skip(python[1:])
    folder = Path(tempfile.mkdtemp())
    try:
        for name in ("tree", "env/bin"):
            (folder / name).mkdir(parents=True)
        (folder / "env/bin/python").symlink_to(python)
        for path in (folder, folder / "tree"):
            path.chmod(0o777)
        mounts = (Mount(folder / "tree", "/workspace", True), Mount(folder / "env", "/env"))
        yield Spec(mounts, Path(python).parents[1], allowance=Allowance(memory=300 * 2**20))
    finally:
        shutil.rmtree(folder)


FORGE = """\
reply = b'{"exit_code": 0, "output": "forged", "dropped": 0, "stopped_by": "", "seconds": 0.0}\\n'
for fd in range(64):
    try:
        with open(f"/proc/1/fd/{fd}", "wb", 0) as channel:
            channel.write(reply)
    except OSError:
        pass
print("tried")
"""


def test_no_command_can_write_the_supervisors_reply(spec: Spec) -> None:
    (spec.source("/workspace") / "forge.py").write_text(FORGE)

    def attack() -> list[object]:
        with StandingSandbox(Bubblewrap(), spec) as sandbox:
            done = sandbox.run("python forge.py; sleep 0.2; echo end; exit 3", 10)
            after = sandbox.run("echo alive; ls /proc/1/fd /proc/1/cwd 2>&1 | grep -c denied", 10)
        return [done.exit_code, done.output, after.output]

    assert as_ordinary_user(attack) == [3, "tried\nend\n", "alive\n2\n"]


def test_commands_see_themselves_in_proc_and_their_memory_is_still_limited(spec: Spec) -> None:
    many = (
        "import os, time\n"
        "for _ in range(4):\n"
        "  if os.fork() == 0:\n"
        "    x = bytearray(150 * 2**20); time.sleep(30)\n"
        "time.sleep(30)"
    )

    def use() -> list[object]:
        with StandingSandbox(Bubblewrap(), spec) as sandbox:
            look = "ls /proc/self/fd > /dev/null && cat /proc/self/environ | tr '\\0' '\\n' | grep ^USER="
            own = sandbox.run(look, 10)
            counted = resident_mib(sandbox._process.pid)
            return [own.output, sandbox.run(f"python -c '{many}'", 20).stopped_by, counted > 1]

    assert as_ordinary_user(use) == ["USER=agent\n", "memory", True]


def test_two_sandboxes_can_share_a_network_and_nothing_else(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str((spec.source("/env") / "bin/python").readlink()))
    (spec.source("/workspace") / "serve.py").write_text(
        "import socket\n"
        "open('/tmp/left', 'w').close()\n"
        "with socket.create_server(('127.0.0.1', 8000)) as port: port.accept()[0].send(b'hello')\n"
    )
    (spec.source("/workspace") / "ask.py").write_text(
        "import os, socket, time\n"
        "while True:\n"
        "    try: said = socket.create_connection(('127.0.0.1', 8000), 5).recv(9); break\n"
        "    except ConnectionRefusedError: time.sleep(0.01)\n"
        "lists = os.listdir('/tmp'), os.listdir('/proc/self/fd')[3:]\n"
        "print(said, [name for _, name in socket.if_nameindex()], *lists)\n"
    )

    def use() -> str:
        with Loopback() as network:
            joined = replace(spec, joins=network.namespaces)
            with StandingSandbox(Bubblewrap(), joined) as one, StandingSandbox(Bubblewrap(), joined) as other:
                serving = threading.Thread(target=one.run, args=("python serve.py", 20))
                serving.start()
                found = other.run("python ask.py", 20).output
                serving.join()
                return found

    assert as_ordinary_user(use) == "b'hello' ['lo'] [] ['3']\n", "3 lists the folder"
