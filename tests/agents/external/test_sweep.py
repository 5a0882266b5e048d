"""A sweep of real clients: one gateway for all of them, and another one where that is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.agents.external.conftest import KEY, VERSIONS
from tests.agents.external.test_clients import EDIT, turns
from tests.sweep.commands import Sweeps

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from tests.agents.loopback import Loopback


def gateways_of(parent: int) -> set[int]:
    """The processes of that one which are gateways."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            of = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if of == parent and b"omniperf.gateway.server" in (place / "cmdline").read_bytes():
                found.add(int(place.name))
        except OSError:
            continue
    return found


def test_all_attempts_go_through_one_gateway_and_through_another_where_that_is_killed(
    make_task: Callable[..., Task], settings: Settings, server: Loopback, client: Callable[[str], None],
    tmp_path: Path, bubblewrap: None,
) -> None:  # fmt: skip
    client(VERSIONS["claude-code"])
    server.play_by_turns(turns("claude-code", EDIT, "git commit -qam faster"))
    file, sweeps = tmp_path / "sweep.yaml", Sweeps(settings, tmp_path)
    sweeps.env |= {"ANTHROPIC_API_KEY": KEY, "PATH": os.environ["PATH"]}
    options = json.dumps({"model": "claude-opus-5-5", "base_url": server.url})
    agents = f"[{{agent: claude-code, options: {options}}}]"
    folder = make_task().folder
    text = f"schema: omniperf/sweep/v1\ntasks: [{folder}]\nagents: {agents}\nattempts: 3\nverify: false\n"
    file.write_text(text)
    process = sweeps.start("sweep", str(file), "--jobs", "2", "--json")
    seen, most = set[int](), 0
    while process.poll() is None:
        now = gateways_of(process.pid)
        most, seen = max(most, len(now)), seen | now
        if len(seen) == 1 and len(server.calls) >= 2 and now:
            os.kill(now.pop(), signal.SIGKILL)
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert (most, len(seen)) == (1, 2)
    assert json.loads(out)["finished"] == 3
    assert len(server.probes) >= 1  # the question of preflight, which went through it too
    tried = list(settings.results.glob("*/interrupted/*/*/result.json"))
    assert tried
    assert all("The gateway has ended" in each.read_text() for each in tried)
