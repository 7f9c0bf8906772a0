"""Conversation input: what an input must not bring in, and what of it counts as text, images and files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.errors import InvalidRequest
from gateway.domain.responses import SERVED_ITEMS
from gateway.responses.conversation_input import Given, given_by

TOOL: dict[str, Any] = {"type": "image_generation"}
USER = {"role": "user", "content": "x"}
LONG = "word " * 20_000
PNG = f"data:image/png;base64,{'A' * 40_000}"


def given(*items: object, **fields: object) -> Given:
    """What a request with these items in its input carries."""
    return given_by({"input": [*items, USER], "tools": [TOOL], **fields})


def said(*parts: object) -> dict[str, object]:
    """A message of several parts."""
    return {"role": "user", "content": list(parts)}


@pytest.mark.parametrize(
    "item",
    [
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]},
        {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [{"type": "web_search"}]},
        {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "", "status": "completed"},
        {"type": "something_new"},
        {"type": ["message"], "role": "user", "content": "x"},
    ],
)
def test_items_that_are_not_served_are_refused(item: dict[str, object]) -> None:
    """The message names the field and what is allowed there."""
    with pytest.raises(InvalidRequest) as refused:
        given(USER, item)
    assert refused.value.param == "input[1].type"
    assert all(name in refused.value.message for name in SERVED_ITEMS)


@pytest.mark.parametrize(
    "item",
    [
        {"id": "msg_1"},
        {"type": None, "id": "msg_1"},
        {"id": "msg_1", "content": "x"},
        {"type": "message", "id": "msg_1", "role": "assistant"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed"},
        {"type": "image_generation_call", "id": "ig_1", "result": ""},
        {"type": "compaction", "id": "cmp_1"},
    ],
)
def test_an_item_by_its_id_alone_is_refused(item: dict[str, object]) -> None:
    """However it leaves out what it is: whose it is cannot be told."""
    with pytest.raises(InvalidRequest, match="by its id") as refused:
        given(item)
    assert refused.value.param == "input[0]"


def test_a_call_that_failed_is_to_be_left_out() -> None:
    """Without a result the vendor would look it up by its id, whatever its status says; the message tells the way."""
    failed = {"type": "image_generation_call", "id": "ig_1", "status": "failed", "result": None}
    with pytest.raises(InvalidRequest, match="leave out calls that failed"):
        given(failed)


@pytest.mark.parametrize("items", [{"id": "msg_1"}, ["x"], 7])
def test_an_input_is_a_string_or_objects(items: object) -> None:
    """Anything else is read by nobody here."""
    with pytest.raises(InvalidRequest, match="array of objects"):
        given_by({"input": items})


def test_what_a_conversation_says_goes_on() -> None:
    """Items that such a conversation is made of pass, in the shapes of the vendor's library."""
    found = given(
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "y"}]},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORw0"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
    )
    assert (found.unbounded, found.images) == (False, 1)
    assert not given_by({"input": "a lighthouse"}).unbounded


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {"type": "compaction", "encrypted_content": "gAAAA"},
    ],
)
def test_what_lies_with_the_vendor_has_no_bound(item: dict[str, object]) -> None:
    """How long it is nobody here can tell."""
    assert given(item).unbounded


@pytest.mark.parametrize("name", ["file_data", "file_url", "image_url", "result"])
def test_text_is_text_by_whatever_name(name: str) -> None:
    """In a function's schema, or in a part that is no image and no file, it is counted to its last byte."""
    inner = {"type": "image_generation_call", name: LONG}
    function = {"type": "function", "name": "f", "parameters": {"default": inner}}
    assert given(tools=[TOOL, function]).text_bytes > len(LONG)
    assert given(said({"type": "input_text", "text": "x", name: LONG})).text_bytes > len(LONG)
    assert given({"type": "function_call_output", "call_id": "c", "output": "x", name: LONG}).text_bytes > len(LONG)
    assert given(metadata={"input[0].content[0]": {"type": "input_image", name: LONG}}).text_bytes > len(LONG)


def test_images_and_files_are_no_text_where_the_vendor_takes_them() -> None:
    """An image counts as one, a file as what has no bound; their bytes are not read as words."""
    found = given(
        said({"type": "input_image", "image_url": PNG}),
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": PNG}]},
        {"type": "image_generation_call", "id": "ig_1", "result": PNG},
        tools=[{**TOOL, "input_image_mask": {"image_url": PNG}}],
    )
    assert (found.images, found.unbounded, found.text_bytes < 3_000) == (4, False, True)
    file = given(said({"type": "input_file", "filename": "a.pdf", "file_data": PNG}))
    assert (file.unbounded, file.text_bytes < 1_000) == (True, True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"Tools": [{"type": "web_search"}]}, "Tools"),
        ({"Service_Tier": "priority"}, "Service_Tier"),
        ({"Max_Output_Tokens": 10**6}, "Max_Output_Tokens"),
        ({"input[]": "x"}, "input[]"),
        ({"tools": [{**TOOL, "Quality": "high"}]}, "tools[0].Quality"),
        ({"tools": [{**TOOL, "SIZE": "3840x2160"}]}, "tools[0].SIZE"),
        ({"tools": [TOOL, {"type": "function", "Type": "web_search"}]}, "tools[1].Type"),
        ({"input": [{**USER, "Type": "additional_tools"}]}, "input[0].Type"),
        ({"input": [said({"type": "input_image", "image_url": PNG, "File_ID": "f"})]}, "input[0].content[0].File_ID"),
    ],
)
def test_a_name_that_a_lenient_reader_takes_for_another_is_refused(fields: dict[str, object], param: str) -> None:
    """As on the paths of images: what is priced must be what is sent."""
    with pytest.raises(InvalidRequest, match="must be spelt") as refused:
        given_by({"input": "x", **fields})
    assert refused.value.param == param


def test_names_of_the_clients_own_are_its_own() -> None:
    """A function may have parameters of any name, and so may metadata."""
    parameters = {"type": "object", "properties": {"Size": {"type": "string"}, "Model": {"type": "string"}}}
    function = {"type": "function", "name": "f", "parameters": parameters}
    assert given_by({"input": "x", "tools": [function], "metadata": {"Type": "a", "Quality": "b"}}).images == 0


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"input": [said({"type": "input_image", "file_id": "f"})]}, "input[0].content[0]"),
        ({"input": [said({"type": "input_file", "file_id": "f"})]}, "input[0].content[0]"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"file_id": "f"}]}]},
            "input[0].output[0]",
        ),
        ({"tools": [{**TOOL, "input_image_mask": {"file_id": "f"}}]}, "tools[0].input_image_mask"),
    ],
)
def test_files_and_urls_are_found_where_the_vendor_reads_them(fields: dict[str, Any], place: str) -> None:
    """In parts of messages, in those of a function's output, and in the tool's mask."""
    assert given_by({"input": "x", **fields}).lying_there.keys() == {f"{place}.file_id"}
    linked = json.loads(json.dumps(fields).replace("file_id", "image_url"))
    assert given_by({"input": "x", **linked}).urls == [(f"{place}.image_url", "f")]


def test_files_and_urls_of_the_clients_own_are_text() -> None:
    """In a function's schema, the schema of an answer, or metadata such names say nothing to the vendor."""
    own = {"file_id": "x", "image_url": "http://10.0.0.5/x.png", "file_url": "http://10.0.0.5/x"}
    function = {"type": "function", "name": "f", "parameters": {"properties": own}}
    text = {"format": {"type": "json_schema", "name": "o", "schema": {"properties": own}}}
    note = {"type": "output_text", "text": "see", "annotations": [{"type": "file_citation", "file_id": "f"}]}
    found = given({"role": "assistant", "content": [note]}, tools=[TOOL, function], text=text, metadata=own)
    assert (found.lying_there, found.urls, found.images) == ({}, [], 0)
