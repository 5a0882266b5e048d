"""The agent `mini-swe-agent`: SWE-agent's small sibling, read through the trajectory that it writes after each step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from omniperf.agents.external.agent import HOME, Launch, PythonAgent
from omniperf.agents.external.stream import (
    Answered,
    Called,
    Growing,
    Said,
    failure_of,
    listed,
    mapped,
    money,
    number,
    text,
)
from omniperf.gateway.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.external.agent import Ask
    from omniperf.agents.external.find import Client
    from omniperf.agents.external.stream import Seen

_FORMAT = "mini-swe-agent-1.1"  # earlier ones have no tool calls
_OUT, _CONFIG = f"{HOME}/trajectory.json", f"{HOME}/omniperf.yaml"


class MiniSweAgent(PythonAgent):
    """mini-swe-agent without questions. The task goes in by a file: YAML takes JSON."""

    summary = "mini-swe-agent, from PATH (--model, --base-url, --api)"
    name = "mini-swe-agent"
    program, package, least = "mini", "mini-swe-agent", (2, 4)
    install: ClassVar[str] = "Install it into an environment of its own: `pipx install mini-swe-agent`."
    apis: ClassVar[tuple[str, ...]] = ("anthropic", "chat", "responses")
    reader = staticmethod(lambda: MiniReader())

    def launch(self, client: Client, ask: Ask) -> Launch:
        """As one command, with one try a call."""
        family = "anthropic" if ask.api == "anthropic" else "openai"
        config = {
            "run": {"task": ask.prompt},
            "agent": {"cost_limit": 0.0, "step_limit": 0},
            "environment": {"timeout": int(ask.command_seconds), "cwd": ask.folder},
            "model": {"model_kwargs": {"drop_params": True, "num_retries": 0, "max_retries": 0}},
        }
        argv = (*client.argv, "-m", f"{family}/{ask.model}", "-y", "--exit-immediately", "-o", _OUT)
        argv += ("-c", "mini.yaml", "-c", _CONFIG)
        argv += ("--model-class", "litellm_response") if ask.api == "responses" else ()
        keys = {"ANTHROPIC_BASE_URL": ask.url, "ANTHROPIC_API_KEY": ask.token}
        if family == "openai":
            keys = {"OPENAI_BASE_URL": f"{ask.url}/v1", "OPENAI_API_BASE": f"{ask.url}/v1", "OPENAI_API_KEY": ask.token}
        env = {
            **keys,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",
            "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1",
            "MSWEA_SILENT_STARTUP": "1",
        }
        return Launch(argv, env, {_CONFIG: json.dumps(config)}, watch=_OUT)


class MiniReader(Growing):
    """Reads its trajectory. Exit status 0 says nothing: `info.exit_status` does."""

    def grown(self, value: dict[str, Any]) -> Iterator[Seen]:
        """Take in what was added."""
        if value.get("trajectory_format", _FORMAT) != _FORMAT:
            return
        for message in map(mapped, self.added(value, "messages")):
            yield from self._message(message)
        info = mapped(value, "info")
        report, status = self.report, text(info.get("exit_status"))
        report.version = text(info.get("mini_version"))
        report.usd = money(mapped(info, "model_stats").get("instance_cost"))
        report.ended, report.ok = bool(status), status == "Submitted"
        report.final = text(info.get("submission"))
        if status and not report.ok:
            report.said = f"{status}: {text(info.get('exception_str')) or report.said}".rstrip(": ")
            report.failure = "turns" if status == "LimitsExceeded" else failure_of(None, report.said)

    def _message(self, message: dict[str, Any]) -> Iterator[Seen]:
        """A message as litellm has it, of Chat Completions; or an item of a Responses answer."""
        extra = mapped(message, "extra")
        actions = listed(extra, "actions")
        role = message.get("role")
        if role == "assistant" or message.get("object") == "response":
            self._reply(mapped(extra, "response") or message)
            said = text(message.get("content"))
            if said:
                yield Said(said)
            for action in map(mapped, actions):
                yield Called(text(action.get("tool_call_id")), "bash", text(action.get("command")))
        elif role == "tool" or message.get("type") == "function_call_output":
            code = extra.get("returncode")
            output = text(extra.get("raw_output", message.get("content", message.get("output"))))
            why = text(extra.get("exception_info"))  # such as that its time was over
            output = f"{output.rstrip()}\n{why}".lstrip() if why else output
            failed = type(code) is int and code != 0
            id_ = text(message.get("tool_call_id") or message.get("call_id"))
            yield Answered(id_, output, code if type(code) is int else None, failed)
        elif role == "exit":
            self.report.said = text(message.get("content"))
        elif response := mapped(extra, "response"):  # a reply that it could not use, and what it answered
            self._reply(response)
            choices = listed(response, "choices")
            reply = mapped(choices[0], "message") if choices else {}
            if said := text(reply.get("content")):
                yield Said(said)
            for call in map(mapped, listed(reply, "tool_calls")):
                function, id_ = mapped(call, "function"), text(call.get("id"))
                yield Called(id_, text(function.get("name")), input=function.get("arguments"))
                yield Answered(id_, text(message.get("content")), failed=True)

    def _reply(self, response: dict[str, Any]) -> None:
        """Count a reply of the model's, as litellm has it."""
        self.report.turns += 1
        self.report.add_model(response.get("model"))
        used = mapped(response, "usage")
        names = ("prompt_tokens", "completion_tokens") if "prompt_tokens" in used else ("input_tokens", "output_tokens")
        sent, out = (number(used.get(name)) for name in names)
        details = mapped(used, f"{names[0]}_details")
        read, written = number(details.get("cached_tokens")), number(details.get("cache_write_tokens"))
        if sent or out:
            now = Tokens(max(0, sent - read - written), read, written, out)
            self.report.tokens = (self.report.tokens or Tokens()) + now
