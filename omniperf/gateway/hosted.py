"""What a request asks of the provider's own servers beyond a reply: taken out of it, or a reason to refuse it.

Tools that run at the provider have the network that the sandbox has not, and cost what no usage counts as tokens. What
the provider would fetch, or has kept from before, is a way out of the sandbox too.
"""

from __future__ import annotations

import json
import re
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# The kinds of tools that the client runs; whatever else there may be one day runs elsewhere until it is named here.
# Searching for tools is done among those of the request.
_CLIENTS = {
    "", "function", "custom", "bash", "text_editor", "memory", "local_shell", "shell", "apply_patch", "namespace",
    "tool_search", "tool_search_tool_regex", "tool_search_tool_bm25",
}  # fmt: skip
_DATE = re.compile(r"_\d{8}$")
_FIELDS = {
    "mcp_servers", "connectors", "web_search_options", "plugins", "search_parameters", "enable_search",
}  # fmt: skip
_REFUSED = {
    "background": "a reply that is made in the background",
    "previous_response_id": "a conversation that the server keeps",
    "conversation": "a conversation that the server keeps",
    "prompt": "a prompt that the server keeps",
    "container": "a container that the server keeps",
}
_TALK = ("messages", "system", "input")
_KEPT = {"file_id", "container", "container_id"}
_INLINE = {"base64", "text", "content"}  # types of a source of Anthropic's
_DATA = {"file_data", "image", "audio", "video", "data"}  # content, for which some servers take a URL too
# Said by the model and read by nobody; tools are looked at as tools, and their schemas name what they like.
_OPAQUE = {"input", "arguments", "action", "operation", "citations", "annotations", "tools"}
_BLANK = " \t\n\r"
_DECODER = JSONDecoder()


def asked_of(body: bytes) -> dict[str, Any]:
    """What a body asks. Raises ValueError where it is not one JSON object in which each name is there once.

    A name that is there twice is read by one server as the first and by another as the last.
    """
    try:
        asked = json.loads(body.decode(), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("a body that is nested too deeply") from None
    if not isinstance(asked, dict):
        raise ValueError("no object")
    return asked


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice in one object")
    return found


def refused(asked: dict[str, Any]) -> str:
    """Why a body is not passed on at all: what it asks for could not be counted, or is elsewhere. "" where it is."""
    if found := next((name for name in _REFUSED if asked.get(name)), ""):
        return f"the gateway does not serve {_REFUSED[found]} ({found}): send the whole conversation"
    if any(not isinstance(each.get("tools") or [], list) for each in (asked, *_items(asked))):
        return "the gateway does not serve tools that are no list"
    try:
        found = next(filter(None, (_elsewhere(asked.get(name)) for name in _TALK)), "")
    except RecursionError:
        found = "what is nested too deeply"
    return (
        f"the gateway does not serve what the provider would have to find elsewhere ({found}): send it" if found else ""
    )


def _elsewhere(value: object) -> str:
    """The name of what in a conversation is not in it (a URL, a file, an item that the provider keeps), or ""."""
    if isinstance(value, list):
        return next(filter(None, map(_elsewhere, value)), "")
    if not isinstance(value, dict):
        return ""
    if value.get("type") == "item_reference" or (value.keys() <= {"id", "type"} and "id" in value):
        return "item_reference"
    name: str
    for name, held in value.items():
        if held and name in _KEPT:
            return name
        if held and name.endswith("_url"):
            url = held.get("url") if isinstance(held, dict) else held
            if not str(url).lower().startswith("data:"):
                return name
        elif name == "source" and isinstance(held, dict) and held.get("type") not in _INLINE:
            return f"a source of type {held.get('type')}"
        elif name == "source" and isinstance(held, dict) and held.get("type") == "text":
            continue  # may well begin with a URL
        elif name in _DATA and _linked(held):
            return name
        elif name not in _OPAQUE and (found := _elsewhere(held)):
            return found
    return ""


def _linked(held: object) -> bool:
    if isinstance(held, dict):
        return _linked(held.get("url"))
    if isinstance(held, list):
        return any(map(_linked, held))
    return isinstance(held, str) and held.lstrip().lower().startswith(("http:", "https:"))


def asks_hosted(asked: dict[str, Any]) -> bool:
    """Whether anything of a body runs at the provider."""
    if any(name in asked for name in _FIELDS):
        return True
    lists = [each.get("tools") for each in (asked, *_items(asked))]
    return any(_hosted(tool) for tools in lists if isinstance(tools, list) for tool in tools)


def _items(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a conversation of Responses: whichever kind they are, some of them bring tools."""
    items = asked.get("input")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def without_hosted(body: bytes) -> tuple[bytes, list[str]]:
    """The body without hosted tools, and what was taken out; every other byte is as it was.

    The body is a JSON object in UTF-8. Raises ValueError where it is not.
    """
    text = body.decode()
    gone: list[str] = []
    cuts: list[tuple[int, int]] = []
    members = list(_members(text, 0))
    gone += [name for name, *_ in members if name in _FIELDS]
    cuts += _cuts([(begin, end) for _, begin, _, end in members], [name not in _FIELDS for name, *_ in members])
    objects = [members]
    for name, _, value, _ in members:
        if name == "input" and text[value] == "[":
            for begin, _ in _elements(text, value):
                if text[begin] == "{":
                    objects.append(list(_members(text, begin)))
    for name, _, value, _ in (member for each in objects for member in each):
        if name == "tools" and text[value] == "[":
            tools = list(_elements(text, value))
            hosted = [_hosted(json.loads(text[begin:end])) for begin, end in tools]
            gone += [kind for kind in hosted if kind]
            cuts += _cuts(tools, [not kind for kind in hosted])
    for begin, end in sorted(cuts, reverse=True):
        text = text[:begin] + text[end:]
    return (text.encode(), gone) if gone else (body, [])


def _hosted(tool: Any) -> str:
    """The kind of a tool that runs at the provider, or may; "" for one that the client runs."""
    if not isinstance(tool, dict):
        return "unknown"
    kind = str(tool.get("type") or "")
    place = tool.get("environment")
    local = place is None or (isinstance(place, dict) and place.get("type") == "local")
    inner = tool.get("tools") or []  # of a namespace
    if _DATE.sub("", kind) not in _CLIENTS or not local or not isinstance(inner, list):
        return kind or "unknown"
    return next(filter(None, map(_hosted, inner)), "")


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


def _members(text: str, at: int) -> Iterator[tuple[str, int, int, int]]:
    """Name, begin, begin of its value, and end, of each member of the object that begins there."""
    if text[(at := _skip(text, at))] != "{":
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
