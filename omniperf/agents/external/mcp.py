"""The harness's tools as an MCP server, where the extra `mcp` is installed: what of it a sandbox must show."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from omniperf.agents.external.find import Client
from omniperf.sandbox.spec import Mount

NAME = "omniperf"
"""What the server is called in a client's configuration."""

_PLACE = "/omniperf/mcp"
_SCRIPT = Path(__file__).with_name("inside") / "mcp_server.py"


def mcp_server() -> Client | None:
    """The server, to be started inside by `argv`; None where its package is not installed.

    Of this process's packages it shows the official package and what that needs, no others.
    """
    try:
        shown = _needed("mcp")
    except PackageNotFoundError:
        return None
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}").resolve()
    mounts = [Mount(path, f"{_PLACE}/packages/{path.name}") for path in sorted(shown)]
    place = f"{_PLACE}/mcp_server.py"
    return Client((str(python), "-I", place), "", (*mounts, Mount(_SCRIPT, place)), python.parent.parent)


def _needed(asked: str) -> set[Path]:
    """What a package and those that it needs have put beside each other. Raises PackageNotFoundError."""
    wanted, seen, found = [Requirement(asked)], set[str](), set[Path]()
    while wanted:
        requirement = wanted.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        package = distribution(requirement.name)
        for file in package.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__", "/"):
                found.add(Path(str(package.locate_file(top))))
        extras = {"", *requirement.extras}
        for line in package.requires or ():
            needs = Requirement(line)
            if needs.marker is None or any(needs.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needs)
    return {path for path in found if path.exists()}
