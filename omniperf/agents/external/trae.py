"""The agent `trae`: ByteDance's TRAE agent, read through the trajectory that it writes after each step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from omniperf.agents.external.agent import HOME, Launch, PythonAgent
from omniperf.agents.external.stream import Answered, Called, Growing, Said, failure_of, listed, mapped, text, tokens
from omniperf.gateway.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.external.agent import Ask
    from omniperf.agents.external.find import Client
    from omniperf.agents.external.stream import Seen

_OUT, _CONFIG, _TASK = f"{HOME}/trajectory.json", f"{HOME}/trae.yaml", f"{HOME}/task.md"
_PROVIDERS = {"anthropic": "anthropic", "chat": "openrouter", "responses": "openai"}


class TraeAgent(PythonAgent):
    """TRAE agent as one command. Its configuration is YAML, which takes JSON; .json it reads otherwise."""

    summary = "TRAE agent, from PATH (--model, --base-url, --api)"
    name = "trae"
    program, package, least = "trae-cli", "trae-agent", (0, 1)
    install: ClassVar[str] = "Install it from its sources into an environment of its own, with docker and pexpect."
    apis: ClassVar[tuple[str, ...]] = ("anthropic", "responses", "chat")
    reader = staticmethod(lambda: TraeReader())

    def launch(self, client: Client, ask: Ask) -> Launch:
        """As one command, with one try a call; the gateway and the runner count its steps."""
        provider = _PROVIDERS[ask.api]
        url = ask.url if ask.api == "anthropic" else f"{ask.url}/v1"
        model = {"model_provider": provider, "model": ask.model, "max_tokens": 16_384, "temperature": 1.0, "top_p": 1.0}
        model |= {"top_k": 0, "max_retries": 1, "parallel_tool_calls": False}
        tools = ["bash", "str_replace_based_edit_tool", "sequentialthinking", "task_done"]
        config = {
            "agents": {"trae_agent": {"model": "m", "max_steps": 10_000, "enable_lakeview": False, "tools": tools}},
            "model_providers": {provider: {"api_key": ask.token, "provider": provider, "base_url": url}},
            "models": {"m": model},
        }
        flags = ("--config-file", _CONFIG, "--working-dir", ask.folder, "--trajectory-file", _OUT)
        argv = (*client.argv, "run", "--file", _TASK, *flags, "--console-type", "simple")
        return Launch(argv, {}, {_CONFIG: json.dumps(config), _TASK: ask.prompt}, watch=_OUT)


class TraeReader(Growing):
    """Reads its trajectory. Exit status 0 says nothing: `success` does."""

    def grown(self, value: dict[str, Any]) -> Iterator[Seen]:
        """Take in what was added."""
        report = self.report
        for call in map(mapped, self.added(value, "llm_interactions")):
            response = mapped(call, "response")
            report.turns += 1
            report.add_model(response.get("model"))
            report.tokens = (report.tokens or Tokens()) + tokens(mapped(response, "usage"))
        for step in map(mapped, self.added(value, "agent_steps")):
            if said := text(mapped(step, "llm_response").get("content")):
                yield Said(said)
            for call in map(mapped, listed(step, "tool_calls")):
                given = mapped(call, "arguments")
                yield Called(text(call.get("call_id")), text(call.get("name")), text(given.get("command")), given)
            for result in map(mapped, listed(step, "tool_results")):
                failed = result.get("success") is False
                output = text(result.get("result")) or text(result.get("error"))
                yield Answered(text(result.get("call_id")), output, failed=failed)
            report.said = text(step.get("error")) or report.said
        report.ended = bool(value.get("end_time"))
        report.ok = value.get("success") is True
        report.final = text(value.get("final_result"))
        if report.ended and not report.ok:
            report.said = report.said or report.final
            report.failure = failure_of(None, report.said)
