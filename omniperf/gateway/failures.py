"""From an SDK's exception, or an error inside a stream, to a CallError: what kind it is, and whether to try again."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from omniperf.results.redact import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniperf.gateway.tokens import Tokens

FailureKind: TypeAlias = Literal["auth", "quota", "throttled", "network", "protocol", "context", "filtered"]

OF_THE_MODEL: Mapping[str, str] = {
    "context": "the conversation grew longer than the model takes",
    "filtered": "the provider's content filter refused to go on",
}
"""Kinds of failures that are no fault of the provider's nor of the host's, and what they say."""

_QUOTA = {"insufficient_quota", "billing_error", "billing_not_active", "billing_hard_limit_reached"}
_AUTH = {"authentication_error", "permission_error", "invalid_api_key"}
_THROTTLED = {"rate_limit_error", "rate_limit_exceeded", "overloaded_error", "slow_down"}
_SERVER = {"api_error", "server_error", "timeout_error", "internal_error", "internal_server_error"}
_TOO_LONG = re.compile(
    "prompt is too long|exceeds? (the )?context (limit|window)|maximum context length|context size"
    "|input token count.*exceeds the maximum"
)
_FILTERED = re.compile(r"content (filter|management policy)|safety system|violat\w+ our usage polic")
_WINDOW = re.compile(
    r"(?:maximum context length is |context (?:size|window|limit)\D{0,20}|tokens allowed \(|> )(\d[\d,_]{2,})"
    r"(?![\d,_]|\s*\+)"
)
_SHOWN = 600  # characters of what a server says


class CallError(Exception):
    """A call that came to nothing. The text holds no key.

    `retry` says whether the same call may succeed later, `after` how many seconds the server asked to wait. `tokens`
    estimate what it cost all the same, with no input where the server had not counted it; None: it cost nothing. The
    kind `context` means that the conversation is too long for the model, `filtered` that its content is not allowed.
    """

    def __init__(
        self, kind: FailureKind, message: str, *, retry: bool = False, after: float | None = None,
        tokens: Tokens | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.kind: FailureKind = kind
        self.retry, self.after, self.tokens = retry, after, tokens


def window_said(message: str) -> int | None:
    """The tokens that a model takes, where a server says so when it refuses a longer conversation."""
    found = [int(re.sub("[,_]", "", text)) for text in _WINDOW.findall(message.lower())]
    return min(found, default=None)


def no_stream(content_type: str) -> CallError | None:
    """What is wrong with a reply of no event: a page, as wrong URLs and proxies have; None where it is a stream."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", "text/event-stream"):
        return None
    return CallError("protocol", clean(f"the server answered with {kind}, not with a stream of events"))


def from_exception(error: Exception, tokens: Tokens | None = None) -> CallError:
    """Classify what an SDK raised; `tokens` are spent where the connection was what failed."""
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", {})
    if status is None and body is None:
        said = f"{type(error).__name__}: {error}" + (f" ({error.__cause__})" if error.__cause__ else "")
        return CallError("network", clean(said)[:_SHOWN], retry=True, tokens=tokens)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    return from_report(inner, status=status, fallback=str(error), headers=headers)


def from_report(
    report: object,
    *,
    status: int | None = None,
    fallback: str = "",
    headers: Mapping[str, str] | None = None,
) -> CallError:
    """Classify an error as a server reports it: a mapping with `type`, `code` and `message`.

    Inside a stream, whose own status is 200, a number as the code is the status that it would have had.
    """
    fields: dict[str, Any] = report if isinstance(report, dict) else {}
    if (status or 200) < 400:
        status = int(code) if re.fullmatch("[45][0-9]{2}", code := str(fields.get("code"))) else None
    codes = {str(fields[key]) for key in ("code", "type") if fields.get(key)}
    message = str(fields.get("message") or fallback or report)
    kind, retry = _kind(status, codes, message.lower())
    headers = headers or {}
    if (told := headers.get("x-should-retry")) in ("true", "false"):
        retry = told == "true"
    said = f"{status or 'error in the stream'}: {message}"
    return CallError(kind, clean(said)[:_SHOWN], retry=retry, after=_retry_after(headers))


def _kind(status: int | None, codes: set[str], message: str) -> tuple[FailureKind, bool]:
    if codes & _QUOTA or status == 402 or "credit balance" in message:
        return "quota", False
    if status in (401, 403) or codes & _AUTH:
        return "auth", False
    if status == 413 or "context_length_exceeded" in codes or _TOO_LONG.search(message):
        return "context", False
    if status in (429, 503, 529) or codes & _THROTTLED:
        return "throttled", True
    if status in (408, 409) or (status or 0) >= 500 or codes & _SERVER:
        return "network", True
    if _FILTERED.search(message):
        return "filtered", False
    return "protocol", False


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            return max(0.0, float(text) * scale)
        except ValueError:
            pass
        try:
            return max(0.0, (parsedate_to_datetime(text) - _server_time(headers)).total_seconds())
        except (ValueError, TypeError):
            continue
    return None


def _server_time(headers: Mapping[str, str]) -> datetime:
    """The time by the clock that the server's dates are of, which may be hours off; ours where it tells none."""
    try:
        return parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return datetime.now(UTC)
