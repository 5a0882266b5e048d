"""The harness's tools as an MCP server inside the sandbox, asked by the official client and by real ones."""

from __future__ import annotations

import json
import shlex
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.external.channel import Channel
from omniperf.agents.external.find import Client
from omniperf.agents.external.mcp import PACKAGE, mcp_server
from omniperf.agents.providers.protocol import ToolResult
from omniperf.results.store import read_lines
from omniperf.sandbox.standing import StandingSandbox
from omniperf.tasks.schema import Repo
from tests.agents.external.test_clients import EDIT, shell
from tests.agents.loopback import Loopback, Say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omniperf.agents.providers.protocol import ToolCall
    from omniperf.measure.bench import Bench
    from omniperf.tasks.schema import Task
    from tests.agents.external.conftest import Attempt

pytest.importorskip("mcp", reason="the extra mcp is not installed: pip install -c constraints.txt -e '.[mcp]'")

NOTHING = Path("/nonexistent")  # a tree in which none of the packages can be

# What the official client makes of a server that is started by the command line after it.
ASK = """
import sys
sys.path.insert(0, "/omniperf/mcp/packages")
import json
import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
CALLS = [("benchmark", {}), ("benchmark", {"against": "commit"}), ("test", {}), ("profile", {}),
         ("benchmark", {"against": "human"}), ("finish", {})]
async def main():
    parameters = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = sorted(tool.name for tool in (await session.list_tools()).tools)
        said = []
        for name, arguments in CALLS:
            try:
                result = await session.call_tool(name, arguments)
                said.append([result.is_error, result.content[0].text])
            except Exception as error:
                said.append([True, str(error)])
        print(json.dumps({"tools": tools, "said": said}))
anyio.run(main)
"""


@pytest.fixture
def inside(bench: Bench, bubblewrap: None) -> Iterator[tuple[Channel, StandingSandbox]]:
    server = mcp_server(bench.task, NOTHING)
    assert server is not None
    workspace = bench.workspace("mcp-1")
    with ExitStack() as stack:
        channel = stack.enter_context(Channel(Client(("true",), "1.0", ()), server))
        spec = channel.equip(bench.spec(workspace, agent=True))
        yield channel, stack.enter_context(StandingSandbox(bench.backend, spec))


def test_the_official_client_asks_for_the_tools_of_the_harness(
    inside: tuple[Channel, StandingSandbox], bench: Bench
) -> None:
    channel, sandbox = inside
    calls: list[tuple[str, Any]] = []

    def use(call: ToolCall) -> ToolResult:
        calls.append((call.name, json.loads(call.arguments)))
        return ToolResult("", f"{call.name} was used", failed=call.name == "test")

    channel.serve(use)
    server = mcp_server(bench.task, NOTHING)
    assert server is not None
    python, *_ = server.argv
    done = sandbox.run(f"{python} -I -c {shlex.quote(ASK)} {shlex.join(server.argv)} 2>/dev/null", 60)
    assert done.ok, done.output
    said = json.loads(done.output.splitlines()[-1])
    assert said["tools"] == ["benchmark", "profile", "test"]
    assert said["said"][:4] == [
        *[[False, "benchmark was used"]] * 2, [True, "test was used"], [False, "profile was used"],
    ]  # fmt: skip
    assert [failed for failed, _ in said["said"][4:]] == [True, True]
    assert calls == [
        ("benchmark", {"against": "base"}),
        ("benchmark", {"against": "commit"}),
        ("test", {}),
        ("profile", {}),
    ]


def test_of_the_harness_packages_only_those_of_the_server_are_seen(inside: tuple[Channel, StandingSandbox]) -> None:
    _, sandbox = inside
    seen = sandbox.run("ls /omniperf/mcp/packages", 10).output.split()
    assert {"mcp", "pydantic"} <= set(seen)
    assert not {"numpy", "libcst", "omniperf", "openai", "anthropic", "gitdb", "rich"} & set(seen)
    assert not sandbox.run("touch /omniperf/mcp/packages/mcp/x", 10).ok


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_a_client_uses_the_server(
    agent: str, make_task: Callable[..., Task], server: Loopback, attempt: Attempt
) -> None:
    tool = "mcp__omniperf/benchmark" if agent == "codex" else "mcp__omniperf__benchmark"
    asked = (tool, {"against": "base"})
    server.play_by_turns(
        [
            Say("", (shell(agent, EDIT),)),
            Say("", (asked,)),
            Say("", (shell(agent, "git commit -qam faster"),)),
            Say("Done."),
        ]
    )
    folder, result = attempt(make_task("measure: {max_minutes: 0.5}"), agent)
    assert (result.outcome.kind, result.verdict.class_) == ("finished", "improved"), result.outcome
    trajectory = list(read_lines(folder / "trajectory.jsonl"))
    (call,) = [line for line in trajectory if line["kind"] == "call" and line["tool"].endswith("benchmark")]
    (told,) = [line for line in trajectory if line["kind"] == "result" and line["id"] == call["id"]]
    assert "Screening, not a verdict: faster" in told["output"]
    assert {line["exit_code"] for line in trajectory if line["kind"] == "result"} <= {0, None}
    assert result.usage.steps == 3


def test_without_the_package_no_server_is_offered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    from omniperf.agents.external import mcp

    def gone(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(mcp, "distribution", gone)
    assert mcp_server(bench.task, NOTHING) is None


def test_a_package_that_is_too_old_is_none(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mcp_server(bench.task, NOTHING) is not None
    old = tmp_path / "mcp-2.2.9.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: mcp\nVersion: 2.2.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert mcp_server(bench.task, NOTHING) is None


def test_what_counts_as_too_old_is_what_the_extra_says() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["optional-dependencies"]["mcp"] == [PACKAGE]


@pytest.mark.parametrize(
    ("repo", "target", "offered"),
    [
        ({"pypi": "idna==3.6"}, "*.py", False),
        ({"pypi": "toy==1"}, "src/idna/core.py", False),
        ({"pypi": "toy==1"}, "typing_extensions.py", False),
        ({"url": "https://example.org/python-attrs/Attrs.git", "base": "a" * 40}, "*.py", False),
        ({"pypi": "Jsonschema.Specifications==1"}, "*.py", False),
        ({"pypi": "pydantic-core==2"}, "src/*.rs", False),
        ({"pypi": "toy==1"}, "src/toy/core.py", True),
        ({"pypi": "tornado==6.4"}, "tornado/*.py", True),
    ],
    ids=str,
)
def test_a_task_about_one_of_the_packages_is_offered_no_server(
    bench: Bench, repo: dict[str, str], target: str, offered: bool
) -> None:
    task = bench.task.model_copy(update={"repo": Repo.model_validate(repo), "targets": (target,)})
    assert (mcp_server(task, NOTHING) is not None) == offered


def test_nor_is_a_task_whose_tree_holds_one(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "src" / "pydantic").mkdir(parents=True)
    assert mcp_server(bench.task, tmp_path) is None
