"""The agent `codex`: OpenAI's Codex CLI, with its JSON events and the log of its earlier versions."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, ClassVar

from omniperf.agents.external.agent import HOME, TOOL_PATIENCE, ExternalAgent, Launch
from omniperf.agents.external.find import native_program
from omniperf.agents.external.mcp import NAME
from omniperf.agents.external.stream import (
    Answered,
    Called,
    JsonLines,
    Report,
    Said,
    failure_of,
    listed,
    mapped,
    number,
    text,
)
from omniperf.gateway.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.external.agent import Ask
    from omniperf.agents.external.find import Client
    from omniperf.agents.external.stream import Seen

_CONFIG = """\
model = {model}
model_provider = "gateway"
check_for_update_on_startup = false
[analytics]
enabled = false
[features]
plugins = false
unbounded_connection_retries = false
[shell_environment_policy]
ignore_default_excludes = false
set = {{ GIT_CONFIG_KEY_0 = "safe.directory" }}
[model_providers.gateway]
name = "gateway"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "CODEX_GATEWAY_KEY"
request_max_retries = 0
stream_max_retries = 1
"""


_SERVER = """\
[mcp_servers.{name}]
command = {command}
args = {args}
required = true
startup_timeout_sec = 60
tool_timeout_sec = {patience}
"""


class CodexAgent(ExternalAgent):
    """Codex as one command. Its own sandbox is off, which would keep it from committing: ours is around it."""

    summary = "OpenAI's Codex CLI, from PATH (--model, --base-url)"
    name = "codex"
    program, least = "codex", (0, 60)
    install: ClassVar[str] = "Install it: `npm install -g @openai/codex`."
    apis: ClassVar[tuple[str, ...]] = ("responses",)
    speaks_mcp = True
    reader = staticmethod(lambda: CodexReader())

    def find(self) -> Client:
        """The native program behind npm's wrapper: killing the wrapper would leave it."""
        places = ("codex-linux-*", "codex/node_modules/@openai/codex-linux-*", "codex")
        inner = tuple(
            f"{place}/vendor/{{machine}}-*-linux-musl/{folder}/codex" for place in places for folder in ("bin", "codex")
        )
        return native_program(self.program, self.least, self.install, inner)

    def launch(self, client: Client, ask: Ask) -> Launch:
        """As one command. It drops variables named like keys from the environment of its shell."""
        config = _CONFIG.format(model=json.dumps(ask.model), url=ask.url)
        if ask.server:
            command, args = json.dumps(ask.server[0]), json.dumps(ask.server[1:])
            config += _SERVER.format(name=NAME, command=command, args=args, patience=TOOL_PATIENCE)
        flags = ("exec", "--json", "--dangerously-bypass-approvals-and-sandbox", "--skip-git-repo-check")
        argv = (*client.argv, *flags, "-C", "/workspace", "-")
        env = {"CODEX_GATEWAY_KEY": ask.token}
        return Launch(argv, env, {f"{HOME}/.codex/config.toml": config}, stdin=ask.prompt)


class CodexReader(JsonLines):
    """Reads `codex exec --json`."""

    def event(self, event: dict[str, Any]) -> Iterator[Seen]:
        """Take in an object."""
        report = self.report
        match event.get("type"):
            case "thread.started":
                report.session = text(event.get("thread_id"))
            case "turn.started":
                report.ended = report.ok = False
            case "item.started" | "item.completed":
                yield from self._item(mapped(event, "item"), begins=event["type"] == "item.started")
            case "turn.completed":
                report.ended = report.ok = True
                report.turns += 1
                used = mapped(event, "usage")
                sent, read = number(used.get("input_tokens")), number(used.get("cached_input_tokens"))
                written = number(used.get("cache_write_input_tokens"))
                fresh = max(0, sent - read - written)
                report.tokens = Tokens(fresh, read, written, number(used.get("output_tokens")))
            case "turn.failed":
                report.ended, report.ok = True, False
                report.said = text(mapped(event, "error").get("message"))
                report.failure = failure_of(None, report.said)
            case "error":  # also of a try that is made again: `turn.failed` is what counts
                report.said = text(event.get("message"))

    def _item(self, item: dict[str, Any], *, begins: bool) -> Iterator[Seen]:
        kind, id_ = item.get("type"), text(item.get("id"))
        match kind:
            case "agent_message" if not begins:
                self.report.final = text(item.get("text"))
                yield Said(self.report.final)
            case "command_execution":
                if begins:
                    yield Called(id_, "shell", _inner(text(item.get("command"))))
                else:
                    code, output = item.get("exit_code"), text(item.get("aggregated_output"))
                    failed = item.get("status") == "failed"
                    yield Answered(id_, output, code if type(code) is int else None, failed)
            case "file_change" if not begins:  # begun and done are one: not every version says the first
                yield Called(id_, "apply_patch", input=listed(item, "changes"))
                yield Answered(id_, "", failed=item.get("status") == "failed")
            case "mcp_tool_call":
                if begins:
                    tool = f"{text(item.get('server'))}.{text(item.get('tool'))}"
                    yield Called(id_, tool, input=item.get("arguments"))
                else:
                    failed = item.get("status") == "failed"
                    output = text(mapped(item, "result").get("content")) or text(mapped(item, "error").get("message"))
                    yield Answered(id_, output, failed=failed)


_TOOK = r"(?:[\d.]+m?s|\d+m ?\d+s)"  # from a minute on there is a space in it
_ENDED = re.compile(rf"^ ?(?:succeeded in|exited (\d{{1,3}}) in) {_TOOK}:$")
_ENDED_INLINE = re.compile(rf"^(.*) in (/.*) (?:succeeded in|exited (\d{{1,3}}) in) {_TOOK}:$")
_SECTIONS = ("user", "thinking", "codex", "exec", "file update", "file update:", "tokens used", "mcp startup:")


def read_log(log: str) -> tuple[Report, list[Seen]]:
    """Read what `codex exec` prints for people (0.60): what it did, and what it came to.

    A diff after `file update` is cumulative and repeated, so it is no edit of its own; `apply_patch` lines are.
    """
    report, seen = Report(), list[Any]()
    lines = log.splitlines()
    if found := re.search(r"^OpenAI Codex v(\d[\d.]*)", log, re.M):
        report.version = found[1]
    for line in lines[:20]:
        name, _, value = line.partition(": ")
        if name == "session id":
            report.session = value.strip()
        elif name == "model":
            report.add_model(value.strip())
    section, body = "", list[str]()

    def close() -> None:
        if section == "codex":
            report.final = "\n".join(body).strip()
            seen.append(Said(report.final))
        elif section == "exec" and body:
            _command(body, seen)
        elif section == "tokens used" and body and re.fullmatch("[0-9]{1,15}", digits := body[0].replace(",", "")):
            report.tokens = Tokens(input=int(digits))  # the log has one number for all

    for line in lines:
        if line in _SECTIONS or line.startswith(("tokens used", "apply_patch(")):
            close()
            section, body = line.split(":")[0], []
            if line.startswith("apply_patch("):
                found = re.search(r"exited (\d{1,3}) in", line)
                code = int(found[1]) if found else None
                id_ = str(len(seen))
                seen.extend((Called(id_, "apply_patch"), Answered(id_, "", code, failed=code != 0)))
                section = ""
        elif section:
            body.append(line)
    close()
    report.turns = sum(isinstance(one, Said) for one in seen)
    report.ended = report.ok = bool(seen) and isinstance(seen[-1], Said)  # nothing else says so in the log
    return report, seen


def _command(body: list[str], seen: list[Any]) -> None:
    """One `exec` section: the command over one or more lines, how it ended, its output."""
    id_ = str(len(seen))
    for at, line in enumerate(body):
        found = _ENDED_INLINE.match(line)
        ended = _ENDED.match(line)
        if not found and not ended:
            continue
        words = "\n".join(body[:at] + ([found[1]] if found else []))
        code = int((found[3] if found else ended[1] if ended else None) or 0)
        seen.extend(
            (Called(id_, "shell", _inner(words)), Answered(id_, "\n".join(body[at + 1 :]), code, failed=code != 0))
        )
        return
    seen.append(Called(id_, "shell", "\n".join(body)))


def _inner(words: str) -> str:
    """What a shell is given, of a command that is `bash -lc ...`."""
    try:
        script = shlex.split(words)
    except ValueError:
        return words
    return script[2] if len(script) == 3 and script[1] in ("-lc", "-c") else words
