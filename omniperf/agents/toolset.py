"""The tools as a model sees them: their schemas, and from what it wrote to what it is told.

Whatever a model writes ends in a text for it, never in an exception of ours; only a reached limit is raised.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from omniperf.agents.protocol import ToolError
from omniperf.agents.providers.protocol import ToolResult, ToolSpec
from omniperf.results.redact import known

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omniperf.agents.protocol import Screening, Session
    from omniperf.agents.providers.protocol import ToolCall

KEPT = 16_000  # characters of an output; the model sees its head and its tail
_HOTSPOTS = 20
_KERNEL_NAME = 120  # characters: templates of C++ have endless names
_A_DAY = 86_400.0

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "array": (list,)}


def _schema(required: str = "", **properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


TOOLS = (
    ToolSpec(
        "bash",
        "Run a shell command in the root of the checkout. No network. State does not carry over between commands.",
        _schema(
            "command",
            command={"type": "string"},
            timeout={"type": "number", "description": "seconds; the task's own limit holds in any case"},
        ),
    ),
    ToolSpec(
        "edit",
        "View or change a file. `view` shows it with line numbers (`lines` is [first, last], from 1, -1 for the end); "
        "`create` writes the whole file `text`; `str_replace` replaces the one occurrence of `old` by `new`; `insert` "
        "puts `text` after line `line` (0: at the top); `undo` takes back the last edit of that file.",
        _schema(
            "command path",
            command={"type": "string", "enum": ["view", "create", "str_replace", "insert", "undo"]},
            path={"type": "string", "description": "relative to the root of the checkout"},
            lines={"type": "array", "items": {"type": "integer"}},
            text={"type": "string"},
            old={"type": "string"},
            new={"type": "string"},
            line={"type": "integer"},
        ),
    ),
    ToolSpec(
        "benchmark",
        "Compare the checkout as it is now with base (or with your last commit), in a few pairs of fresh processes. "
        "This is screening, not a verdict: the patch is measured again, on other inputs, when you are done.",
        _schema(against={"type": "string", "enum": ["base", "commit"]}),
    ),
    ToolSpec("test", "Run the task's tests on the checkout.", _schema()),
    ToolSpec(
        "profile",
        "Profile one run of the workload: the hottest functions of the checkout by their own time, from cProfile, and "
        "the kernels that ran on a GPU, from torch's profiler. Where they are installed, ncu's counters of the three "
        "costliest kernels and compute-sanitizer's memcheck of a run follow; they may take some minutes.",
        _schema(),
    ),
    ToolSpec(
        "commit",
        "Commit the checkout. The best commit that was benchmarked is kept, should what comes later be worse.",
        _schema("message", message={"type": "string"}),
    ),
    ToolSpec(
        "finish",
        "Say that you are done. Uncommitted changes count too. What the summary claims decides nothing.",
        _schema("summary", summary={"type": "string"}),
    ),
)
TEXT_EDITOR = ToolSpec(
    "str_replace_based_edit_tool",
    "",
    _schema(
        "command path",
        command={"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
        path={"type": "string"},
        view_range={"type": "array"},
        file_text={"type": "string"},
        old_str={"type": "string"},
        new_str={"type": "string"},
        insert_line={"type": "integer"},
        insert_text={"type": "string"},
    ),
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
)
"""Anthropic's own editor, which its models were trained on: `edit` by other names, and it lists folders."""

_BY_NAME = {tool.name: tool for tool in (*TOOLS, TEXT_EDITOR)}
_AS_EDIT = {"view_range": "lines", "file_text": "text", "insert_text": "text", "old_str": "old", "new_str": "new",
            "insert_line": "line"}  # fmt: skip
_EDITS: dict[str, dict[str, tuple[str, ...]]] = {
    "edit": {
        "view": (), "create": ("text",), "str_replace": ("old", "new"), "insert": ("line", "text"), "undo": (),
    },
    TEXT_EDITOR.name: {
        "view": (), "create": ("file_text",), "str_replace": ("old_str",), "insert": ("insert_line", "insert_text"),
    },
}  # fmt: skip


def offered(native: str = "") -> tuple[ToolSpec, ...]:
    """The tools that a model is told of; `native` may be `anthropic`, for the one of Anthropic's own that we can be."""
    return tuple(TEXT_EDITOR if native and tool.name == "edit" else tool for tool in TOOLS)


class Toolset:
    """The tools of a session, called as a model calls them. `finished` says whether it has called `finish`.

    `changed` says whether the last call may have changed the tree, `done` what of it must be known to resume.
    """

    def __init__(self, session: Session, tools: Sequence[ToolSpec] = TOOLS) -> None:
        self._session, self._tools = session, session.tools
        self._names = [tool.name for tool in tools]
        self.finished = False
        self.changed = False
        self.done: dict[str, object] = {}

    def use(self, call: ToolCall, *, cut: bool = False) -> ToolResult:
        """Do one call. `cut` says that the reply it stands in was cut off. Raises BudgetExhaustedError."""
        self.changed, self.done = False, {}
        try:
            if call.name not in self._names:
                raise ToolError(f"There is no tool {call.name!r}; the tools are {', '.join(self._names)}.")
            arguments = _arguments(call, cut=cut)
        except ToolError as error:  # it reached no tool, and is a step all the same
            self._session.budget.step()
            self._session.journal.write("step", step=self._session.budget.steps, tool=call.name, refused=str(error))
            return self._told(call, str(error), failed=True)
        try:
            return self._told(call, getattr(self, f"_{call.name}")(arguments))
        except ToolError as error:
            return self._told(call, str(error), failed=True)

    def _told(self, call: ToolCall, text: str, *, failed: bool = False) -> ToolResult:
        return ToolResult(call.id, bounded(known(text)), failed)

    def _bash(self, given: Mapping[str, Any]) -> str:
        self.changed = True
        seconds = given.get("timeout")
        done = self._tools.bash(given["command"], None if seconds is None else max(1.0, min(seconds, _A_DAY)))
        ended = f"stopped at its {done.stopped_by} limit" if done.stopped_by else f"exit code {done.exit_code}"
        ended += ": delete files, nothing can be written before" if done.stopped_by == "disk" else ""
        dropped = f", {done.dropped_bytes} bytes of output left out" if done.dropped_bytes else ""
        return f"{done.output.rstrip()}\n[{ended}, {done.seconds:.1f} s{dropped}]".lstrip()

    def _edit(self, given: Mapping[str, Any]) -> str:
        command, path = given["command"], given["path"]
        self.changed = command != "view"
        match command:
            case "view":
                return _numbered(self._tools.view(path), given.get("lines"))
            case "create":
                self._tools.create(path, given["text"])
            case "str_replace":
                self._tools.str_replace(path, given["old"], given.get("new", ""))
            case "insert":
                self._tools.insert(path, given["line"], given["text"])
            case "undo":
                self._tools.undo(path)
        return f"{path}: done."

    def _str_replace_based_edit_tool(self, given: Mapping[str, Any]) -> str:
        path = given["path"].removeprefix("/workspace").strip("/") or "."
        folder = False
        with suppress(OSError):  # a name that no file can have; what to say of it is the edit's
            folder = (self._session.workspace.tree / path).is_dir()
        if given["command"] == "view" and folder:
            return self._bash({"command": f"find {shlex.quote(path)} -maxdepth 2 -not -path '*/.*' | sort"})
        return self._edit({_AS_EDIT.get(name, name): value for name, value in {**given, "path": path}.items()})

    def _benchmark(self, given: Mapping[str, Any]) -> str:
        against = given.get("against", "base")
        screening = self._tools.benchmark(against)
        self.done = {"screened": asdict(screening), "against": against}
        return _screened(screening, "your last commit" if against == "commit" else "base")

    def _test(self, given: Mapping[str, Any]) -> str:  # noqa: ARG002 - every tool takes its arguments
        report = self._tools.test()
        self.done = {"passed": report.passed}
        return f"{'passed' if report.passed else 'FAILED'} in {report.seconds:.1f} s\n{report.output}".rstrip()

    def _profile(self, given: Mapping[str, Any]) -> str:  # noqa: ARG002
        profile = self._tools.profile(deep=True)
        rows = ["No function of the checkout was called."]
        if profile.functions:
            rows = [f"{'own s':>9} {'total s':>9} {'calls':>9}  function (one run, under the profiler)"]
        for spot in profile.functions[:_HOTSPOTS]:
            times = f"{spot.own_seconds:9.4f} {spot.total_seconds:9.4f} {spot.calls:9d}"
            rows.append(f"{times}  {spot.file}:{spot.line} {spot.function}")
        if profile.kernels:
            rows += ["", f"{'on GPU ms':>9} {'share':>9} {'launches':>9}  kernel (one run, under the profiler)"]
        whole = sum(kernel.seconds for kernel in profile.kernels) or 1.0
        for kernel in profile.kernels[:_HOTSPOTS]:
            figures = f"{1000 * kernel.seconds:9.4f} {kernel.seconds / whole:9.1%} {kernel.launches:9d}"
            rows.append(f"{figures}  {kernel.name[:_KERNEL_NAME]}")
        if profile.counters:
            rows += [
                "",
                f"{'ms':>9} {'SM':>9} {'DRAM':>9} {'occupancy':>9} {'registers':>9}  kernel (one launch, by ncu)",
            ]
        for one in profile.counters:
            shares = " ".join(f"{share:8.1f}%" for share in (one.sm_percent, one.dram_percent, one.occupancy_percent))
            rows.append(f"{1000 * one.seconds:9.4f} {shares} {one.registers:9.0f}  {one.name[:_KERNEL_NAME]}")
        if profile.no_counters:
            rows += ["", f"ncu: {profile.no_counters}"]
        if profile.memcheck:
            rows += ["", f"compute-sanitizer memcheck, one run: {profile.memcheck}"]
        return "\n".join(rows)

    def _commit(self, given: Mapping[str, Any]) -> str:
        message = _plain(given["message"]) or "change"
        sha = self._tools.commit(message)
        self.done = {"committed": message} if sha else {}
        return f"committed {sha[:12]}" if sha else "Nothing has changed since the last commit."

    def _finish(self, given: Mapping[str, Any]) -> str:
        self._tools.finish(_plain(given["summary"]))
        self.finished = True
        return "done"


def bounded(text: str) -> str:
    """A text as a model gets it: valid Unicode, never empty, the middle left out where it is long."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > KEPT:
        half = KEPT // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"
    return text or "(nothing)"


def _arguments(call: ToolCall, *, cut: bool) -> dict[str, Any]:
    """The arguments of a call, checked against the tool's schema. Raises ToolError with what is wrong."""
    tool = _BY_NAME[call.name]
    try:
        given = json.loads(call.arguments or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        why = "your reply was cut off at its longest; write less at once" if cut else f"{error}"
        raise ToolError(f"The arguments of {call.name} are not valid JSON: {why}. Nothing was done.") from None
    if not isinstance(given, dict):
        raise ToolError(f"The arguments of {call.name} must be a JSON object. Nothing was done.")
    given = {name: value for name, value in given.items() if value is not None}
    known = tool.parameters["properties"]
    if missing := [name for name in tool.parameters["required"] if name not in given]:
        raise ToolError(f"{call.name} needs {' and '.join(missing)}. Nothing was done.")
    for name, value in given.items():
        if name not in known:
            raise ToolError(f"{call.name} takes no {name!r}; it takes {', '.join(known) or 'nothing'}.")
        kind, choices = known[name]["type"], known[name].get("enum")
        if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
            raise ToolError(f"{name} of {call.name} must be of the type {kind}. Nothing was done.")
        if choices and value not in choices:
            raise ToolError(f"{name} of {call.name} must be one of {', '.join(choices)}. Nothing was done.")
    if call.name in _EDITS and (missing := [name for name in _EDITS[call.name][given["command"]] if name not in given]):
        raise ToolError(f"{call.name} {given['command']} needs {' and '.join(missing)}. Nothing was done.")
    return given


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _plain(text: str) -> str:
    """A text that any program takes as an argument."""
    return text.replace("\0", "").encode("utf-8", "replace").decode().strip()


def _numbered(text: str, wanted: list[Any] | None) -> str:
    lines = text.splitlines()
    first, last = 1, len(lines)
    if wanted is not None:
        if len(wanted) != 2 or not all(type(number) is int for number in wanted):
            raise ToolError("lines must be two whole numbers, [first, last].")
        first, last = max(1, wanted[0]), len(lines) if wanted[1] < 0 else min(wanted[1], len(lines))
        if first > last:
            raise ToolError(f"The file has {len(lines)} lines; {wanted} is none of them.")
    return "\n".join(f"{number:6d}\t{lines[number - 1]}" for number in range(first, last + 1))


def _screened(screening: Screening, reference: str) -> str:
    if screening.decision == "failed":
        return f"Screening, not a verdict: FAILED. {screening.reason}"
    low, high = screening.low, screening.high
    shown = f"{screening.speedup:.3f}x as fast as {reference} (90 % interval {low:.3f} to {high:.3f})"
    why = f" ({screening.reason})" if screening.reason else ""
    return f"Screening, not a verdict: {screening.decision}, {shown}, {screening.pairs} pairs{why}."
