"""The paths that clients ask for, and refusals in the shape and with the status that they take as final."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from omniperf.gateway.meter import Api

Provider: TypeAlias = Literal["anthropic", "openai"]

METERED: dict[str, Api] = {"/v1/messages": "messages", "/v1/responses": "responses", "/v1/chat/completions": "chat"}
FREE = {"/v1/messages/count_tokens": ("POST",), "/v1/models": ("GET", "HEAD")}

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "insufficient_quota",
}
_OPENAI_CODES = {401: "invalid_api_key", 404: "not_found", 429: "insufficient_quota"}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    409: "invalid_request_error",
}  # fmt: skip


def provider_of(path: str, *, anthropic_style: bool) -> Provider:
    """Whose API a path belongs to; `/v1/models` is both's, and the headers tell."""
    if path.startswith("/v1/messages") or (path.startswith("/v1/models") and anthropic_style):
        return "anthropic"
    return "openai"


def refusal(provider: Provider, status: int, message: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error of ours, as the provider would write it."""
    if provider == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        error: dict[str, object] = {"type": "error", "error": {"type": kind, "message": message}}
    else:
        kind, code = _OPENAI_TYPES.get(status, "server_error"), _OPENAI_CODES.get(status)
        error = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    headers = [(b"content-type", b"application/json")]
    if status < 500:
        headers.append((b"x-should-retry", b"false"))
    return status, headers, json.dumps(error).encode()


def spent_status(provider: Provider) -> int:
    """The status of a refusal for the budget: clients try again after most others.

    Claude Code takes 403 as final, Codex 429 with `insufficient_quota`; the SDKs obey `x-should-retry`.
    """
    return 403 if provider == "anthropic" else 429
