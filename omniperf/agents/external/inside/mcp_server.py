"""The harness's tools for clients that speak MCP, over standard input and output, with the official package.

It runs in the sandbox, on the harness's own Python, and asks as the commands of `ask.py` do: by them.
"""

import subprocess
import sys
from typing import Literal

sys.path.insert(0, "/omniperf/mcp/packages")

import anyio
from mcp.server import MCPServer
from mcp.types import CallToolResult, TextContent

server = MCPServer("omniperf")


async def asked(*argv: str) -> CallToolResult:
    """What a command of the harness says; an error where it ends so. A call that is taken back ends it."""
    command = (f"/omniperf/bin/{argv[0]}", *argv[1:])
    done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    text = TextContent(type="text", text=done.stdout.decode("utf-8", "replace").strip())
    return CallToolResult(content=[text], is_error=done.returncode != 0)


@server.tool(structured_output=False)
async def benchmark(against: Literal["base", "commit"] = "base") -> CallToolResult:
    """Screen the checkout as it is now against base, or against your last commit that was benchmarked so."""
    return await asked("omniperf-bench", "--against", against)


@server.tool(structured_output=False)
async def test() -> CallToolResult:
    """Run the task's tests on the checkout as it is now."""
    return await asked("omniperf-test")


@server.tool(structured_output=False)
async def profile() -> CallToolResult:
    """Profile one run of the task's workload on the checkout as it is now."""
    return await asked("omniperf-profile")


if __name__ == "__main__":
    server.run("stdio")
