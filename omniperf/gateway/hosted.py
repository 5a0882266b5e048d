"""What a request asks of the provider's own servers beyond a reply: taken out of it, or a reason to refuse it.

Such tools run at the provider, with the network that the sandbox has not, and cost what no usage counts as tokens.
"""

from __future__ import annotations

import json
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = (
    "web_search", "web_fetch", "code_execution", "code_interpreter", "mcp", "file_search", "computer",
    "image_generation", "connector",
)  # fmt: skip
_FIELDS = {"mcp_servers", "connectors", "web_search_options"}
_REFUSED = {
    "background": "a reply that is made in the background",
    "previous_response_id": "a conversation that the server keeps",
    "conversation": "a conversation that the server keeps",
}
_BLANK = " \t\n\r"
_DECODER = JSONDecoder()


def refused(asked: object) -> str:
    """Why a body is not passed on at all: what it asks for could not be counted. "" where it is."""
    if not isinstance(asked, dict):
        return "the gateway takes a body that is one JSON object, without a content-encoding"
    found = next((name for name in _REFUSED if asked.get(name)), "")
    return f"the gateway does not serve {_REFUSED[found]} ({found}): send the whole conversation" if found else ""


def without_hosted(body: bytes) -> tuple[bytes, list[str]]:
    """The body without hosted tools, and what was taken out; every other byte is as it was.

    The body is a JSON object in UTF-8. Raises ValueError where it is not.
    """
    text = body.decode()
    gone: list[str] = []
    cuts: list[tuple[int, int]] = []
    members = list(_members(text))
    kept_members = [name not in _FIELDS for name, *_ in members]
    gone += [name for name, *_ in members if name in _FIELDS]
    cuts += _cuts([(begin, end) for _, begin, _, end in members], kept_members)
    for name, _, value, _ in members:
        if name == "tools" and text[value] == "[":
            tools = list(_elements(text, value))
            hosted = [_hosted(json.loads(text[begin:end])) for begin, end in tools]
            gone += [kind for kind in hosted if kind]
            cuts += _cuts(tools, [not kind for kind in hosted])
    for begin, end in sorted(cuts, reverse=True):
        text = text[:begin] + text[end:]
    return (text.encode(), gone) if gone else (body, [])


def _hosted(tool: Any) -> str:
    """The kind of a tool that runs at the provider; "" for one that the client runs."""
    if not isinstance(tool, dict):
        return ""
    kind = str(tool.get("type") or "")
    place = tool.get("environment")
    if kind.startswith(_KINDS) or (isinstance(place, dict) and str(place.get("type")).startswith("container")):
        return kind
    inner = tool.get("tools")  # of a namespace
    return next(filter(None, map(_hosted, inner)), "") if isinstance(inner, list) else ""


def _cuts(spans: list[tuple[int, int]], kept: list[bool]) -> Iterator[tuple[int, int]]:
    """What to cut so that the spans that are kept have one comma between them."""
    before = any(kept)  # an item that is kept may still come: cut up to what follows
    for at, (begin, end) in enumerate(spans):
        if kept[at]:
            before = any(kept[at + 1 :])
        elif before:
            yield begin, spans[at + 1][0]
        else:  # with the comma before it, if it has one
            yield (spans[at - 1][1] if at else begin), end


def _members(text: str) -> Iterator[tuple[str, int, int, int]]:
    """Name, begin, begin of its value, and end, of each member of the object that the text is."""
    if text[(at := _skip(text, 0))] != "{":
        raise ValueError("no object in UTF-8")
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, end = _DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, end) + 1)
        _, end = _DECODER.raw_decode(text, value)
        yield name, at, value, end
        at = _next(text, end)


def _elements(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each element of the list that begins there."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield at, end
        at = _next(text, end)


def _next(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    while text[at] in _BLANK:
        at += 1
    return at
