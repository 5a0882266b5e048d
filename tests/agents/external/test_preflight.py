"""What is asked of an external agent before anything is made: `doctor --agent`, and the start of a run."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from omniperf.agents.external.find import native_program
from omniperf.agents.models import AnthropicAgent
from omniperf.agents.preflight import agent_checks
from omniperf.errors import InfraError, UsageError
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.sweep.run import run_task
from tests.agents.external.conftest import KEY, VERSIONS
from tests.agents.loopback import Fail, Loopback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

AGENTS = {
    "claude-code": "claude", "codex": "codex", "mini-swe-agent": "mini", "trae": "trae-cli", "openhands": "openhands",
}  # fmt: skip


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def planted(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A program of that name, alone on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("agent", AGENTS)
def test_a_client_that_is_not_there_is_named_with_a_remedy(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (check,) = agent_checks(agent, {"model": "m"})
    assert (check.name, check.status) == (f"agent {agent}", "fail")
    assert check.detail == f"{AGENTS[agent]} was not found on PATH."
    assert check.remedy.startswith("Install it")


def test_a_wrapper_without_the_program_behind_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(tmp_path / "bin", monkeypatch, "codex", "#!/bin/sh\necho codex 9.9.9\n")
    (check,) = agent_checks("codex", {"model": "m"})
    assert "is not the native program" in check.detail


def test_a_client_outside_of_an_environment_of_its_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(tmp_path / "bin", monkeypatch, "mini", "#!/bin/sh\n")
    (check,) = agent_checks("mini-swe-agent", {"model": "m"})
    assert check.detail.endswith("is not in a virtual environment of its own.")


def test_a_missing_model_or_key_or_a_wrong_api_names_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = agent_checks("claude-code", {})
    assert check.detail == "The agent 'claude-code' needs a model."
    (check,) = agent_checks("mini-swe-agent", {"model": "m", "api": "telepathy"})
    assert check.detail == "This agent speaks no API 'telepathy'."
    (check,) = agent_checks("codex", {"model": "m", "api": "chat"})
    assert check.detail == "The agent 'codex' takes no --api."
    monkeypatch.setenv("OPENAI_API_KEY", "")
    (check,) = agent_checks("codex", {"model": "m"})
    assert check.detail == "The agent 'codex' needs a key in OPENAI_API_KEY."


def test_of_a_program_alone_in_a_folder_of_others_only_itself_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(shutil.which("bash") or "", tmp_path / "alone")
    (tmp_path / "private").write_text("mine")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = native_program("alone", (1,), "", ())
    assert [mount.source for mount in found.mounts] == [tmp_path / "alone"]
    assert found.argv == (str(found.mounts[0].target),)


@pytest.mark.parametrize("agent", ["anthropic", "claude-code"])
def test_the_setting_says_where_a_model_is_asked_and_no_variable_of_an_sdk(
    agent: str, client: Callable[[str], None], server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    if agent == "claude-code":
        client("claude-code-2.1.329")
    server.play(())
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OMNIPERF_ANTHROPIC_BASE_URL", server.url)
    assert agent_checks(agent, {"model": "m"})[-1].status == "ok"
    assert len(server.probes) == 1
    monkeypatch.delenv("OMNIPERF_ANTHROPIC_BASE_URL")
    assert AnthropicAgent().base_url({}) == "https://api.anthropic.com"


def test_doctor_asks_the_model_and_says_what_it_refuses(
    client: Callable[[str], None], server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    client("claude-code-2.1.329")
    server.play(())
    options = {"model": "claude-opus-5-5", "base_url": server.url}
    found = agent_checks("claude-code", options)
    assert [check.status for check in (found[0], found[-1])] == ["ok", "ok"]
    assert found[-1].detail == "claude 2.1.329, asking anthropic for claude-opus-5-5: answered"
    for fail, said in (
        (Fail(401, "authentication_error", "invalid x-api-key"), "refused the key"),
        (Fail(404, "not_found_error", "model: claude-opus-5-5"), "did not accept the call"),
        (Fail(402, "billing_error", "no credit"), "has no quota left"),
        (Fail(200, headers={"content-type": "text/html"}), "the server answered with text/html"),
    ):
        server.probe = fail
        found = agent_checks("claude-code", options)
        assert [check.status for check in (found[0], found[-1])] == ["ok", "fail"]
        assert found[0].detail == "version 1 (claude 2.1.329), options taken"
        assert said in found[-1].detail
        assert KEY not in json.dumps([check.__dict__ for check in found])


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_doctor_says_whether_the_server_of_the_tools_will_be_offered(
    agent: str, client: Callable[[str], None], server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import Distribution, PackageNotFoundError

    from omniperf.agents.external import mcp

    pytest.importorskip("mcp", reason="the extra mcp is not installed: pip install -c constraints.txt -e '.[mcp]'")
    client(VERSIONS[agent])
    server.play(())
    options = {"model": "m", "base_url": server.url if agent == "claude-code" else f"{server.url}/v1"}
    _, check, _ = agent_checks(agent, options)
    assert (check.name, check.status) == ("MCP server", "ok")
    assert check.detail.startswith("offered")
    there = mcp.distribution

    def without(name: str) -> Distribution:
        if name == gone:
            raise PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(mcp, "distribution", without)
    for gone in ("mcp", "pydantic"):
        _, check, _ = agent_checks(agent, options)
        assert (check.name, check.status) == ("MCP server", "warn")
        assert f"not offered, the commands alone are: {gone} is not installed" in check.detail
        assert "pip install -c constraints.txt -e '.[mcp]'" in check.remedy
    gone = ""
    monkeypatch.setattr(mcp, "PACKAGE", "mcp>=999")
    assert "mcp>=999 is not installed" in agent_checks(agent, options)[1].detail


def test_a_run_is_refused_before_a_worktree_is_made(
    make_task: Callable[..., Task], settings: Settings, server: Loopback, client: Callable[[str], None],
    bubblewrap: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from dataclasses import replace

    client("claude-code-2.1.329")
    server.play(())
    server.probe = Fail(401, "authentication_error", "invalid x-api-key")
    task, spec = make_task(), AttemptSpec("", "claude-code", 0, options={"model": "m", "base_url": server.url})
    with pytest.raises(InfraError, match="refused the key"):
        run_task(task, spec, 1, settings, ignore)
    with pytest.raises(UsageError, match="runs in a sandbox alone"):
        run_task(task, spec, 1, replace(settings, sandbox="none"), ignore)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(InfraError, match="claude was not found on PATH"):
        run_task(task, spec, 1, settings, ignore)
    assert not settings.results.exists()
