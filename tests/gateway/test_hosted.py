"""What runs at the provider is taken out of a request, and not a byte besides."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from omniperf.gateway.hosted import without_hosted

MINE: dict[str, Any] = {"type": "function", "name": "web_search", "parameters": {"type": "object"}}
HOSTED: list[dict[str, Any]] = [
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "code_execution_20250825"},
    {"type": "mcp", "server_url": "https://example.org"},
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "namespace", "tools": [MINE, {"type": "file_search"}]},
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("hosted", HOSTED, ids=lambda tool: str(tool["type"]))
def test_hosted_tools_are_taken_out_wherever_they_stand(hosted: dict[str, Any], indent: int | None) -> None:
    for places in product((True, False), repeat=4):
        tools = [hosted if place else MINE for place in places]
        body = json.dumps({"a": "tools: [é]", "tools": tools, "z": [1.50, {}]}, indent=indent).encode()
        left, gone = without_hosted(body)
        assert json.loads(left) == {"a": "tools: [é]", "tools": [MINE] * places.count(False), "z": [1.5, {}]}
        kind = "file_search" if "tools" in hosted else hosted["type"]
        assert gone == [kind] * places.count(True)
        assert gone or left == body


def test_all_else_stays_byte_for_byte() -> None:
    body = b'{ "n": 1.50e0,"to\\u006fls" : [ {"type":"bash_20250124"} , {"type":"web_fetch_1"} ],"x":"\\u00e9"}'
    left, gone = without_hosted(body)
    assert left == b'{ "n": 1.50e0,"to\\u006fls" : [ {"type":"bash_20250124"} ],"x":"\\u00e9"}'
    assert gone == ["web_fetch_1"]


def test_servers_to_connect_to_are_taken_out_too_and_a_name_given_twice_is_no_way_around() -> None:
    body = b'{"mcp_servers":[{"url":"x"}],"tools":[{"type":"mcp"}],"model":"m","tools":[],"web_search_options":{}}'
    assert without_hosted(body)[0] == b'{"tools":[],"model":"m","tools":[]}'
    assert without_hosted(b'{"mcp_servers":[]}') == (b"{}", ["mcp_servers"])
    with pytest.raises(ValueError, match="UTF-8"):
        without_hosted(b"\xef\xbb\xbf{}")
