"""The backend without a sandbox: commands run on the host, with limits but without walls.

Only on explicit request (it is recorded in the result), or for the bundled quickstart where the host has no user
namespaces.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.sandbox.spec import Spec
    from omniperf.sandbox.supervised import Supervisor


class NoSandbox:
    """Runs commands on the host as they are."""

    name = "none"
    isolated = False
    nests = False
    own_user = False

    def where(self, spec: Spec, target: str) -> str:
        """Nothing is mounted, so a target is found at its source."""
        return str(spec.source(target))

    def start(
        self,
        spec: Spec,
        argv: list[str],
        env: Mapping[str, str],
        *,
        stdin: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        bufsize: int = 0,
        info_fd: int | None = None,
        own_init: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start argv on the host."""
        del info_fd, own_init
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=spec.source("/workspace"),
            env=env,
            bufsize=bufsize,
        )

    def entered(self, spec: Spec) -> Supervisor | None:  # noqa: ARG002 - the protocol's signature
        """There is nothing to enter."""
        return None
