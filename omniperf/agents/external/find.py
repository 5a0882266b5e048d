"""Clients on this host: where they are, which version, and what of them a sandbox must show."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from omniperf.errors import InfraError
from omniperf.sandbox.spec import Mount

_PLACE = "/omniperf/client"
_VERSION_SECONDS = 60.0


@dataclass(frozen=True)
class Client:
    """A client that was found. `argv` starts it inside; `prefix` is the interpreter behind it, where it has one."""

    argv: tuple[str, ...]
    version: str
    mounts: tuple[Mount, ...]
    prefix: Path | None = None


def native_program(name: str, least: tuple[int, ...], install: str, inner: tuple[str, ...]) -> Client:
    """A program of machine code that is on PATH, or that a package of npm's with a wrapper on PATH brings.

    `inner` are patterns of paths below the folder that holds the package; {machine} is this host's. Of a program that
    they find, the folder two above is shown inside, else the program alone. Raises InfraError (missing_dep).
    """
    found = _on_path(name, install)
    program = found
    for pattern in inner:
        folder = found.parent.parent.parent
        if matching := sorted(folder.glob(pattern.format(machine=platform.machine()))):
            program = matching[0]
            break
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            raise InfraError("missing_dep", f"{found} is not the native program that {name} is now.", install)
    version = _version((str(program), "--version"), name, least, install)
    if program == found:
        inside = f"{_PLACE}/{program.name}"
        return Client((inside,), version, (Mount(program, inside),))
    top = program.parent.parent
    return Client((f"{_PLACE}/{program.relative_to(top)}",), version, (Mount(top, _PLACE),))


def python_program(name: str, package: str, least: tuple[int, ...], install: str) -> Client:
    """A program of a Python package that is on PATH, in a virtual environment of its own, which is shown at its place.

    It starts isolated, for the task's PYTHONPATH is for the commands it runs, and with no output held back. Raises
    InfraError (missing_dep).
    """
    script = _on_path(name, install)
    root = script.parent.parent
    config = root / "pyvenv.cfg"
    home = re.search(r"^home\s*=\s*(\S.*)$", config.read_text(), re.M) if config.is_file() else None
    if home is None:
        raise InfraError("missing_dep", f"{script} is not in a virtual environment of its own.", install)
    python = str(root / "bin" / "python")
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    version = _version((python, "-I", "-c", ask), name, least, install)
    prefix = Path(python).resolve().parent.parent
    return Client((python, "-Iu", str(script)), version, (Mount(root, str(root)),), prefix)


def _on_path(name: str, install: str) -> Path:
    if (found := shutil.which(name)) is None:
        raise InfraError("missing_dep", f"{name} was not found on PATH.", install)
    return Path(found).resolve()


@lru_cache
def _version(argv: tuple[str, ...], name: str, least: tuple[int, ...], install: str) -> str:
    """The version that it says. It runs with nothing of this process's environment."""
    with tempfile.TemporaryDirectory(prefix="omniperf-") as home:
        env = {"PATH": os.defpath, "HOME": home}
        try:
            done = subprocess.run(
                argv, env=env, cwd=home, capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InfraError("missing_dep", f"{name} does not start ({error}).", install) from None
    found = re.search(r"\d+(?:\.\d+)+", done.stdout)
    if done.returncode != 0 or found is None:
        said = ((done.stderr or done.stdout).strip().splitlines() or ["it said nothing"])[-1][:200]
        raise InfraError("missing_dep", f"{name} does not say its version ({said}).", install)
    if tuple(map(int, found[0].split("."))) < least:
        wanted = ".".join(map(str, least))
        raise InfraError("missing_dep", f"{name} is {found[0]}; supported is {wanted} and later.", install)
    return found[0]
