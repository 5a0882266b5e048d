"""Sandboxes as different users start them, on every backend that this host has."""

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from omniperf.sandbox import container, supervisor
from omniperf.sandbox.bubblewrap import Bubblewrap, why_not
from omniperf.sandbox.spec import Allowance, Backend, Mount, Spec
from omniperf.sandbox.standing import Completed, StandingSandbox

ORDINARY = 1234


def become_ordinary() -> None:
    """Be somebody who is not root from now on."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(ORDINARY)
        os.setuid(ORDINARY)
    why_not.cache_clear()
    container.why_not.cache_clear()
    sys.executable = _a_python() or sys.executable  # root's own may be out of reach


def as_ordinary_user(call: Callable[[], object]) -> Any:
    """What `call` returns, as JSON carries it, when somebody who is not root calls it."""
    if os.getuid() != 0:
        return call()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            become_ordinary()
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


def _a_python() -> str | None:
    """A Python that whoever this is may start."""
    pythons = (Path(sys.base_prefix) / "bin/python3", Path("/usr/bin/python3"))
    return next((str(python) for python in pythons if os.access(python, os.X_OK)), None)


def _python() -> str:
    """A Python for inside, or why an ordinary user cannot have a sandbox here, after a colon."""
    if not os.access(supervisor.__file__, os.R_OK):
        return ":the harness is for root alone"
    if reason := why_not():
        return f":{reason}"
    return _a_python() or ":every Python is for root alone"


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


@dataclass(frozen=True)
class Inside:
    """A kind of sandbox: a backend and who starts it."""

    name: str
    spec: Spec

    def backend(self) -> Backend:
        return Bubblewrap() if self.name.startswith("bubblewrap") else container.Container(self.name)  # type: ignore[arg-type]

    @property
    def as_root(self) -> bool:
        """Whether root starts it, where the tests are run as root."""
        return self.name in ("bubblewrap as root", "docker")

    def as_its_user(self, call: Callable[[], object]) -> Any:
        """What a call returns, in JSON's types, made by the user who starts such a sandbox."""
        return call() if self.as_root else as_ordinary_user(call)

    def run(self, *commands: str, seconds: float = 20, **changes: Any) -> list[Completed]:
        """Run commands in one new sandbox, whose spec has those changes."""
        spec = replace(self.spec, **changes)

        def use() -> list[dict[str, Any]]:
            with StandingSandbox(self.backend(), spec) as sandbox:
                return [asdict(sandbox.run(command, seconds)) for command in commands]

        return [Completed(**fields) for fields in self.as_its_user(use)]

    def say(self, command: str, **changes: Any) -> str:
        """What one command prints."""
        return self.run(command, **changes)[0].output


@pytest.fixture(params=["bubblewrap as root", "bubblewrap as an ordinary user", "docker", "podman"])
def inside(request: pytest.FixtureRequest, spec: Spec) -> Inside:
    """Every kind of sandbox that this host has."""
    name = request.param
    if name == "bubblewrap as root" and os.getuid() != 0:
        pytest.skip("the tests are not run as root")
    made = Inside(name, spec)
    reason = made.as_its_user(lambda: why_not() if name.startswith("bubblewrap") else container.why_not(name))
    if reason:
        pytest.skip(reason)
    return made
