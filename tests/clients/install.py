"""Installs the clients that tests drive, each version into a folder of its own, once.

usage: python -m tests.clients.install [NAME ...]

Without names, those that install within a minute; the others are large and need Python 3.12. They go below
OMNIPERF_CLIENTS, else ~/.cache/omniperf-clients; nothing of them is part of this repository. Tests of a client that is
not there are skipped with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pinned:
    """One client at one version: npm's package, or pip's and what it forgets to ask for."""

    tool: str
    packages: tuple[str, ...]
    program: str
    python: str = sys.executable


CLIENTS = {
    "claude-code-2.1.329": Pinned("npm", ("@anthropic-ai/claude-code@2.1.329",), "node_modules/.bin/claude"),
    "codex-0.169.0": Pinned("npm", ("@openai/codex@0.169.0",), "node_modules/.bin/codex"),
    "codex-0.60.1": Pinned("npm", ("@openai/codex@0.60.1",), "node_modules/.bin/codex"),
    "mini-swe-agent-2.4.6": Pinned("pip", ("mini-swe-agent==2.4.6", "mcp"), "bin/mini"),
    "openhands-1.16.0": Pinned("pip", ("openhands==1.16.0",), "bin/openhands", "python3.12"),
    "trae-0.1.0": Pinned(
        "pip",
        (
            "trae-agent @ git+https://github.com/bytedance/trae-agent@e839e559ac61bdd0e057c375dd1dee391fee797d",
            *("docker", "pexpect", "pydantic==2.11.7", "openai==1.95.1"),
        ),
        "bin/trae-cli",
        "python3.12",
    ),
}
_DEFAULT = tuple(name for name, client in CLIENTS.items() if client.python == sys.executable)


def home() -> Path:
    """Where clients are installed."""
    return Path(os.environ.get("OMNIPERF_CLIENTS") or Path.home() / ".cache" / "omniperf-clients")


def program(name: str) -> Path | None:
    """The program of an installed client; None where it is not."""
    found = home() / name / CLIENTS[name].program
    return found if found.exists() else None


def install(name: str) -> None:
    """Install a client, whole or not at all. Raises CalledProcessError."""
    client, folder = CLIENTS[name], home() / name
    if program(name) is not None:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if client.tool == "npm":
            flags = ("--no-fund", "--no-audit", "--prefix", str(folder))
            subprocess.run(("npm", "install", *flags, *client.packages), check=True)
        else:
            subprocess.run((client.python, "-m", "venv", str(folder)), check=True)
            pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
            subprocess.run((*pip, "--upgrade", "pip>=26"), check=True)
            subprocess.run((*pip, *client.packages), check=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


if __name__ == "__main__":
    for wanted in sys.argv[1:] or _DEFAULT:
        tool = CLIENTS[wanted].tool
        if tool == "npm" and shutil.which("npm") is None:
            print(f"{wanted}: skipped, npm is not installed", file=sys.stderr)
            continue
        install(wanted)
        print(f"{wanted}: {program(wanted)}")
