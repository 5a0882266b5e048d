"""The agent `openhands`: the OpenHands command line, with its JSON events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from omniperf.agents.external.agent import HOME, Launch, PythonAgent
from omniperf.agents.external.stream import Answered, Called, JsonLines, Said, failure_of, listed, mapped, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.external.agent import Ask
    from omniperf.agents.external.find import Client
    from omniperf.agents.external.stream import Seen

_TASK = f"{HOME}/task.md"


class OpenHandsAgent(PythonAgent):
    """OpenHands without a screen."""

    summary = "the OpenHands command line, from PATH (--model, --base-url, --api)"
    name = "openhands"
    program, package, least = "openhands", "openhands", (1, 16)
    install: ClassVar[str] = "Install it into an environment of its own: `uv tool install openhands --python 3.12`."
    apis: ClassVar[tuple[str, ...]] = ("anthropic", "chat")
    reader = staticmethod(lambda: OpenHandsReader())

    def launch(self, client: Client, ask: Ask) -> Launch:
        """As one command."""
        anthropic = ask.api == "anthropic"
        env = {
            "LLM_MODEL": f"{'anthropic' if anthropic else 'openai'}/{ask.model}",
            "LLM_BASE_URL": ask.url if anthropic else f"{ask.url}/v1",
            "LLM_API_KEY": ask.token,
            "LLM_NUM_RETRIES": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENHANDS_SUPPRESS_BANNER": "1",
            "TMUX_TMPDIR": HOME,
        }
        argv = (*client.argv, "--headless", "--json", "--override-with-envs", "-f", _TASK)
        return Launch(argv, env, {_TASK: ask.prompt})


class OpenHandsReader(JsonLines):
    """Reads its events. Exit status 0 says nothing: a `finish` without an error after it does."""

    def event(self, event: dict[str, Any]) -> Iterator[Seen]:
        """Take in an object."""
        report, kind = self.report, event.get("kind")
        match kind:
            case "MessageEvent" if event.get("source") == "agent":
                report.final = text(listed(event, "llm_message", "content"))
                report.ended = report.ok = True
                report.turns += 1
                yield Said(report.final)
            case "ActionEvent":
                action, tool = mapped(event, "action"), text(event.get("tool_name"))
                report.turns += 1
                if tool == "finish":
                    report.ended = report.ok = True
                    report.final = text(action.get("message"))
                else:
                    report.ended = report.ok = False
                    yield Called(text(event.get("tool_call_id")), tool, text(action.get("command")), action)
            case "ObservationEvent" if event.get("tool_name") != "finish":
                seen = mapped(event, "observation")
                code = seen.get("exit_code", mapped(seen, "metadata").get("exit_code"))
                failed = seen.get("is_error") is True or (type(code) is int and code != 0)
                output = text(seen.get("content", seen.get("output")))
                yield Answered(text(event.get("tool_call_id")), output, code if type(code) is int else None, failed)
            case "AgentErrorEvent":
                yield Answered(text(event.get("tool_call_id")), text(event.get("error")), failed=True)
            case "ConversationErrorEvent":
                report.ended, report.ok = True, False
                report.said = f"{text(event.get('code'))}: {text(event.get('detail'))}"
                report.failure = failure_of(None, report.said)
