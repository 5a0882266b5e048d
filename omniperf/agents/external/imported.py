"""Outputs of earlier runs of the clients, read by what reads their streams, and kept as attempts that nobody measured.

What an output does not say stays None. Its times are not kept: the trajectory's are those of the import.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import omniperf
from omniperf.agents.external.claude_code import ClaudeCodeReader
from omniperf.agents.external.codex import CodexReader, read_log
from omniperf.agents.external.mini_swe_agent import MiniReader
from omniperf.agents.external.openhands import OpenHandsReader
from omniperf.agents.external.stream import UNREADABLE, Answered, Called, JsonLines, as_record, encodable, mapped
from omniperf.agents.external.trae import TraeReader
from omniperf.errors import OmniPerfError, UsageError
from omniperf.results.journal import Journal
from omniperf.results.schema import Imported
from omniperf.results.store import IMPORTED, read_plain, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omniperf.agents.external.stream import Reader, Report, Seen

MOST = 64 * 2**20
"""Bytes of one output; it is read whole."""

_READERS: dict[str, Callable[[], Reader]] = {
    "claude-code": ClaudeCodeReader,
    "codex": CodexReader,
    "mini-swe-agent": MiniReader,
    "openhands": OpenHandsReader,
    "trae": TraeReader,
}
FORMATS = ("auto", *_READERS)
_LOG = re.compile(r"OpenAI Codex v([\d.]+)")


def import_output(file: Path, client: str, run: Path, n: int) -> tuple[Path, Imported]:
    """Read one output of a client (one of FORMATS) into a folder of the run; the folder, and what was found.

    Raises UsageError for a file that is none, or too large.
    """
    remedy = f"Name the output of a client, a file of at most {MOST // 2**20} MiB."
    try:
        data = read_plain(file.resolve(), MOST)  # the link that a user names is his own
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{file} cannot be read ({getattr(error, 'strerror', error)}).", remedy) from None
    except OmniPerfError as error:
        raise UsageError(error.message, remedy) from None
    found, report, seen, log = _recognised(file, data.decode("utf-8-sig", "replace"), client)
    record = _record(report, seen, log, found, run.name, n).model_copy(
        update={"source": encodable(file.name), "source_sha256": hashlib.sha256(data).hexdigest()}
    )
    folder = run / "imported" / f"{found}.{n}"
    with Journal(folder / "trajectory.jsonl") as trajectory:
        trajectory.write("conversation", client=found, version=record.client_version)
        for one in seen:
            kind, fields = as_record(one)
            trajectory.write(kind, **fields)
        trajectory.write("ended", report=report.fields())
    write_whole(folder / "logs" / "agent.stdout", data)
    write_whole(folder / IMPORTED, record.model_dump_json(by_alias=True, indent=1).encode())
    return folder, record


def _recognised(file: Path, text: str, client: str) -> tuple[str, Report, list[Seen], bool]:
    """The client, what it says of itself, what it did, and whether that is a log for people. Raises UsageError."""
    for name in _READERS if client == "auto" else (client,):
        try:
            if log := (name == "codex" and _LOG.search(text[:4096]) is not None):
                report, seen = read_log(text)
            else:
                report, seen = _read(_READERS[name](), text)
        except RecursionError:
            continue
        if seen or report.ended or report.turns:
            return name, report, seen, log
    asked = "of any client that is known" if client == "auto" else f"of {client}"
    raise UsageError(
        f"{file} is no output {asked}.",
        "It reads Claude Code's JSON, Codex's JSON events or its log of 0.60, and trajectories of mini-swe-agent 2, "
        "TRAE and OpenHands.",
    )


def _read(reader: Reader, text: str) -> tuple[Report, list[Seen]]:
    """Read an output that is one value of JSON, or an object a line."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = None
    seen: list[Seen] = []
    if not isinstance(reader, JsonLines):
        seen += reader.document(value)
    elif value is None:
        for line in text.splitlines():
            seen += reader.line(line)
    else:
        for event in value if isinstance(value, list) else [value]:
            seen += reader.event(mapped(event))
    return reader.report, seen


def _record(report: Report, seen: list[Seen], log: bool, client: str, run_id: str, n: int) -> Imported:
    tokens = report.tokens if report.tokens and report.tokens.total else None
    apart = None if log else tokens  # the log has one number for all
    failed = sum(isinstance(one, Answered) and (one.failed or bool(one.exit_code)) for one in seen)
    return Imported(
        run_id=run_id,
        agent=client,
        n=n,
        client_version=report.version or None,
        session=report.session or None,
        models=tuple(report.models),
        says=("done" if report.ok else "failed") if report.ended else None,
        failure=report.said if report.ended and not report.ok else "",
        final=report.final,
        turns=_count(report.turns or None),
        tool_calls=sum(isinstance(one, Called) for one in seen) if seen else None,
        failed_calls=failed if seen else None,
        denied=tuple(report.denials),
        input_tokens=_count(apart.sent if apart else None),
        cached_tokens=_count(apart.cache_read if apart else None),
        cache_write_tokens=_count(apart.cache_write if apart else None),
        output_tokens=_count(apart.output if apart else None),
        total_tokens=_count(tokens.total if tokens else None),
        usd=report.usd,
        omniperf_version=omniperf.__version__,
    )


def _count(number: int | None) -> int | None:
    return number if number is not None and number < UNREADABLE else None
