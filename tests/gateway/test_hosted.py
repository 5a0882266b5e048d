"""What runs at the provider is taken out of a request, and not a byte besides."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.gateway.hosted import asked_of, asks_hosted, refused, without_hosted

if TYPE_CHECKING:
    from tests.gateway.conftest import Admit
    from tests.gateway.upstream import Upstream

MINE: dict[str, Any] = {"type": "function", "name": "web_search", "parameters": {"type": "object"}}
HOSTED: list[dict[str, Any]] = [
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "code_execution_20250825"},
    {"type": "mcp", "server_url": "https://example.org"},
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "namespace", "tools": [MINE, {"type": "file_search"}]},
    {"type": "teleport_20301231"},  # which nobody has heard of yet
    {"type": "computer_20251124"},
    {"type": "shell", "environment": {"type": "anywhere"}},
    {"type": "shell", "environment": "container_auto"},
    {"type": "shell", "environment": {}},
    {"type": "namespace", "tools": {"type": "web_search"}},
]
OURS: list[dict[str, Any]] = [
    MINE, {"name": "edit", "input_schema": {}}, {"type": "custom", "name": "apply_patch"}, {"type": "bash_20250124"},
    {"type": "text_editor_20250728"}, {"type": "memory_20250818"}, {"type": "local_shell"}, {"type": "apply_patch"},
    {"type": "shell", "environment": {"type": "local"}}, {"type": "tool_search"},
    {"type": "namespace", "tools": [MINE]},
]  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("hosted", HOSTED, ids=lambda tool: str(tool["type"]))
def test_hosted_tools_are_taken_out_wherever_they_stand(hosted: dict[str, Any], indent: int | None) -> None:
    for places in product((True, False), repeat=4):
        tools = [hosted if place else MINE for place in places]
        body = json.dumps({"a": "tools: [é]", "tools": tools, "z": [1.50, {}]}, indent=indent).encode()
        left, gone = without_hosted(body)
        assert asks_hosted(json.loads(body)) == bool(gone)
        assert json.loads(left) == {"a": "tools: [é]", "tools": [MINE] * places.count(False), "z": [1.5, {}]}
        kind = "file_search" if isinstance(hosted.get("tools"), list) else hosted["type"]
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


def test_what_the_client_runs_stays() -> None:
    body = json.dumps({"tools": OURS}).encode()
    assert without_hosted(body) == (body, [])
    assert not asks_hosted(json.loads(body))


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output", "message"])
def test_tools_that_are_named_within_the_conversation_are_looked_at_too(kind: str) -> None:
    added = {"type": kind, "tools": [MINE, {"type": "web_search"}]}
    asked = {"input": [{"role": "user", "content": "tools"}, added], "tools": []}
    assert asks_hosted(asked)
    left, gone = without_hosted(json.dumps(asked).encode())
    assert gone == ["web_search"]
    assert json.loads(left)["input"][1]["tools"] == [MINE]


def test_tools_of_the_client_that_it_has_searched_for_pass() -> None:
    schema = {"type": "object", "properties": {"image_url": {"type": "string"}, "file_id": {"type": "string"}}}
    mine = {"type": "function", "name": "look", "parameters": schema}
    found = {"type": "tool_search_output", "call_id": "c", "tools": [{"type": "namespace", "tools": [mine]}]}
    asked = {"input": [found], "tools": [{"type": "tool_search"}]}
    assert refused(asked) == ""
    assert not asks_hosted(asked)


def test_tools_that_are_no_list_are_refused() -> None:
    tools = {"type": "web_search"}
    for asked in ({"tools": tools}, {"tools": "web_search"}, {"input": [{"tools": tools}]}):
        assert "no list" in refused(asked)
    assert refused({"tools": None, "input": [{"role": "user", "content": "Go.", "tools": None}]}) == ""


@pytest.mark.parametrize("name", ["plugins", "search_parameters", "enable_search"])
def test_a_search_that_is_no_tool_is_taken_out_too(name: str) -> None:
    asked = {"model": "m", name: [{"id": "web"}]}
    assert asks_hosted(asked)
    assert without_hosted(json.dumps(asked).encode()) == (b'{"model": "m"}', [name])


def test_a_name_that_is_there_twice_is_refused_wherever_it_is() -> None:
    for body in (b'{"a": 1, "a": 2}', b'{"messages": [{"source": {"type": "url", "type": "base64"}}]}', b"[]", b"\xff"):
        with pytest.raises(ValueError, match=r"\S"):
            asked_of(body)
    with pytest.raises(ValueError, match=r"deep|recursion"):
        asked_of(b'{"a":' * 100_000)


URL = "https://example.org/secret"
LINKED = {"type": "image", "source": {"type": "url", "url": URL}}
DATA = "data:image/png;base64,AAAA"


def user(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


ELSEWHERE: dict[str, tuple[str, dict[str, Any]]] = {
    "an image by URL": ("messages", {"messages": user(LINKED)}),
    "a document by URL": ("messages", {"messages": user({"type": "document", "source": {"type": "url", "url": URL}})}),
    "a file of Anthropic's": ("messages", {"messages": user({"source": {"type": "file", "file_id": "f"}})}),
    "a file for a container": ("messages", {"messages": user({"type": "container_upload", "file_id": "file_1"})}),
    "in the result of a tool": ("messages", {"messages": user(
        {"type": "tool_result", "tool_use_id": "t", "content": [LINKED]})}),
    "within a document": ("messages", {"messages": user({"type": "document", "source": {"type": "content", "content": [
        LINKED]}})}),
    "in the system's text": ("messages", {"system": [LINKED]}),
    "a container of Anthropic's": ("messages", {"container": "container_1"}),
    "an input_image by URL": ("responses", {"input": user({"type": "input_image", "image_url": URL})}),
    "an input_image by its id": ("responses", {"input": user({"type": "input_image", "file_id": "file_1"})}),
    "an input_file by URL": ("responses", {"input": user({"type": "input_file", "file_url": URL})}),
    "an image that a function returns": ("responses", {"input": [
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": URL}]}]}),
    "an item that is kept": ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
    "an item that is kept, unsaid": ("responses", {"input": [{"id": "msg_1"}]}),
    "a container of OpenAI's": ("responses", {"input": [{"type": "code_interpreter_call", "container_id": "c"}]}),
    "a prompt that is kept": ("responses", {"prompt": {"id": "pmpt_1"}}),
    "an image_url": ("chat", {"messages": user({"type": "image_url", "image_url": {"url": URL}})}),
    "a file of OpenAI's": ("chat", {"messages": user({"type": "file", "file": {"file_id": "file_1"}})}),
    "a file's data by URL": ("chat", {"messages": user({"type": "file", "file": {"file_data": URL}})}),
    "an input_file's data by URL": ("responses", {"input": user({"type": "input_file", "file_data": URL.upper()})}),
    "a video by URLs": ("chat", {"messages": user({"type": "video", "video": [DATA, f" {URL}"]})}),
    "sound by URL": ("chat", {"messages": user({"type": "input_audio", "input_audio": {"data": URL}})}),
    "a video_url": ("chat", {"messages": user({"type": "video_url", "video_url": {"url": f" {URL}"}})}),
}  # fmt: skip


@pytest.mark.parametrize("what", ELSEWHERE)
def test_what_the_provider_would_fetch_or_has_kept_is_refused_in_its_own_words(
    what: str, upstream: Upstream, admit: Admit
) -> None:
    api, fields = ELSEWHERE[what]
    client = admit()
    upstream.play()
    reply = client.ask(api, **fields)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert reply.json().get("type") == ("error" if api == "messages" else None)
    if api == "messages":
        auth = {"x-api-key": client.admission.token}
        counting = client.http.post(f"{client.url}/v1/messages/count_tokens", headers=auth, json=fields)
        assert counting.status_code == 400
    assert upstream.got == []
    assert client.admission.spent().exchanges == 0


def test_what_is_sent_along_is_passed_on_and_what_the_model_said_is_not_judged() -> None:
    said = {"url": URL, "image_url": URL, "file_id": "f", "source": {"type": "url"}}
    assert refused({"messages": user({"type": "image", "source": {"type": "base64", "data": "A"}})}) == ""
    assert (
        refused({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "input": said}]}]})
        == ""
    )
    assert refused({"messages": user({"type": "image_url", "image_url": {"url": DATA}}), "system": URL}) == ""
    assert (
        refused({"input": user({"type": "input_image", "image_url": DATA}, {"type": "input_text", "text": URL})}) == ""
    )
    assert refused({"messages": user({"type": "document", "source": {"type": "text", "data": URL}})}) == ""
    assert refused({"messages": user({"type": "file", "file": {"file_data": DATA}})}) == ""
    assert refused({"input": "Go.", "previous_response_id": None}) == ""
