"""The agent `claude-code`: Anthropic's Claude Code, with its JSON stream."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from omniperf.agents.external.agent import TOOL_PATIENCE, ExternalAgent, Launch
from omniperf.agents.external.find import native_program
from omniperf.agents.external.mcp import NAME
from omniperf.agents.external.stream import (
    Answered,
    Called,
    JsonLines,
    Said,
    failure_of,
    listed,
    mapped,
    money,
    number,
    text,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.external.agent import Ask
    from omniperf.agents.external.find import Client
    from omniperf.agents.external.stream import Seen


class ClaudeCodeAgent(ExternalAgent):
    """Claude Code in its print mode. It asks for no permission: the sandbox is the wall."""

    summary = "Claude Code, from PATH (--model, --base-url)"
    name = "claude-code"
    program, least = "claude", (2, 1)
    install: ClassVar[str] = "Install it: `npm install -g @anthropic-ai/claude-code`."
    apis: ClassVar[tuple[str, ...]] = ("anthropic",)
    speaks_mcp = True
    reader = staticmethod(lambda: ClaudeCodeReader())

    def find(self) -> Client:
        """The native program that npm puts on PATH."""
        return native_program(self.program, self.least, self.install, ())

    def launch(self, client: Client, ask: Ask) -> Launch:
        """As one command; retries and limits of its own are off, the gateway has them."""
        wait = str(int(1000 * ask.command_seconds))
        flags: tuple[str, ...] = ("-p", "--output-format", "stream-json", "--verbose", "--model", ask.model)
        tools = "Bash,Edit,Read,Write"
        if ask.server:
            servers = {NAME: {"command": ask.server[0], "args": ask.server[1:]}}
            flags = (*flags, "--mcp-config", json.dumps({"mcpServers": servers}), "--strict-mcp-config")
            tools += f",mcp__{NAME}"
        env = {
            "ANTHROPIC_BASE_URL": ask.url,
            "ANTHROPIC_API_KEY": ask.token,
            "ANTHROPIC_SMALL_FAST_MODEL": ask.model,
            "API_TIMEOUT_MS": wait,
            "BASH_DEFAULT_TIMEOUT_MS": wait,
            "BASH_MAX_TIMEOUT_MS": wait,
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "CLAUDE_CODE_TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
            "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "MCP_TOOL_TIMEOUT": str(1000 * TOOL_PATIENCE),
            "DISABLE_TELEMETRY": "1",
        }
        allowed = ("--permission-mode", "acceptEdits", "--allowedTools", tools)
        return Launch((*client.argv, *flags, *allowed), env, {}, stdin=ask.prompt)


class ClaudeCodeReader(JsonLines):
    """Reads `--output-format stream-json`, and the single result of `json`."""

    def event(self, event: dict[str, Any]) -> Iterator[Seen]:
        """Take in an object."""
        match event.get("type"):
            case "system":
                self.report.session = self.report.session or text(event.get("session_id"))
                self.report.version = self.report.version or text(event.get("claude_code_version"))
            case "assistant":
                message = mapped(event, "message")
                if message.get("model") != "<synthetic>":  # what the client itself says of an error
                    self.report.add_model(message.get("model"))
                for block in map(mapped, listed(message, "content")):
                    if block.get("type") == "text":
                        yield Said(text(block.get("text")))
                    elif block.get("type") == "tool_use":
                        given = mapped(block, "input")
                        yield Called(text(block.get("id")), text(block.get("name")), text(given.get("command")), given)
            case "user":
                for block in map(mapped, listed(event, "message", "content")):
                    if block.get("type") == "tool_result":
                        output, failed = text(block.get("content")), block.get("is_error") is True
                        found = re.match(r"(?:Error: )?Exit code (\d{1,3})\b", output)
                        code = int(found[1]) if found else None if failed else 0
                        yield Answered(text(block.get("tool_use_id")), output, code, failed)
            case "result":
                self._result(event)

    def _result(self, event: dict[str, Any]) -> None:
        """The last word. `subtype` alone says nothing: it is `success` of refused keys too."""
        report = self.report
        report.ended = True
        report.ok = event.get("is_error") is False and event.get("subtype") == "success"
        report.session = report.session or text(event.get("session_id"))
        report.turns += number(event.get("num_turns"))
        report.final = text(event.get("result"))
        report.tokens = tokens(mapped(event, "usage"))
        report.usd = money(event.get("total_cost_usd"))
        for model in mapped(event, "modelUsage"):
            report.add_model(model)
        report.denials += [text(mapped(denial).get("tool_name")) for denial in listed(event, "permission_denials")]
        if not report.ok:
            report.said = report.final or "; ".join(map(text, listed(event, "errors"))) or text(event.get("subtype"))
            turns = event.get("subtype") in ("error_max_turns", "error_max_budget_usd")
            report.failure = "turns" if turns else failure_of(event.get("api_error_status"), report.said)
