"""Conversation input: how much text and how many images a request of a conversation carries, and what it must not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.accounts import SEND_IMAGE
from gateway.domain.errors import InvalidRequest
from gateway.domain.responses import SERVED_ITEMS, SERVED_TOOLS
from gateway.domain.spelling import other_spelling

_PER_VALUE = 16
"""Tokens counted for each item, part or other value besides its text: what vendors put around them is not told."""
_LEFT_WHERE_IT_LIES = re.compile(r"spooled-[0-9a-f]{32}-[0-9]+", re.ASCII)
"""What stands for a string that was too long to be decoded; whoever sends such a text himself is held more for."""
_ELSEWHERE = {
    "conversation": "go on with previous_response_id",
    "prompt": "send its text as instructions and input",
}
"""Fields that bring in what the gateway cannot see, and what to use instead."""
_SEND_FILE = "Send the file itself, as file_data with a data: URL."
_TIERS = (None, "auto", "default")
_ITEM = re.compile(r"input\[[0-9]+\]", re.ASCII)
_PART = re.compile(r"input\[[0-9]+\]\.(?:content|output)\[[0-9]+\]", re.ASCII)
_TOOL = re.compile(r"tools\[[0-9]+\]", re.ASCII)
_MASK = re.compile(r"tools\[[0-9]+\]\.input_image_mask", re.ASCII)
_PLACES = (_ITEM, _PART, _TOOL, _MASK)
"""Where names are the vendor's; elsewhere, as in a function's schema, they are the client's own."""
_READ_HERE = frozenset(
    {
        "async",
        "background",
        "callback_url",
        "content",
        "conversation",
        "encrypted_content",
        "file_data",
        "file_id",
        "file_url",
        "id",
        "image_url",
        "input",
        "input_fidelity",
        "input_image_mask",
        "max_output_tokens",
        "max_tool_calls",
        "model",
        "n",
        "output",
        "output_format",
        "partial_images",
        "previous_response_id",
        "prompt",
        "quality",
        "result",
        "role",
        "safety_identifier",
        "service_tier",
        "size",
        "stream",
        "tools",
        "type",
        "user",
    }
)


@dataclass(slots=True)
class Given:
    """What a request carries: bytes of text, input images, URLs of such and of files with the places they stand at.

    `unbounded` tells that how much the model reads of it cannot be told from the request. `lying_there` are the places
    where it names by its id what lies with the vendor, each with what to send instead.
    """

    text_bytes: int = 0
    images: int = 0
    urls: list[tuple[str, str]] = field(default_factory=list)
    unbounded: bool = False
    lying_there: dict[str, str] = field(default_factory=dict)


def given_by(fields: Mapping[str, object]) -> Given:
    """Look through a request's fields; InvalidRequest for what could not be priced, or is not its project's alone."""
    _check_names(fields, "")
    for name, instead in _ELSEWHERE.items():
        if fields.get(name) is not None:
            raise InvalidRequest(f"{name} is not served here: {instead}.", param=name, code="unsupported_parameter")
    if fields.get("service_tier") not in _TIERS:
        message = "service_tier must be auto or default: other tiers have other prices."
        raise InvalidRequest(message, param="service_tier", code="unsupported_parameter")
    _check_tools(fields.get("tools"))
    given = Given()
    _check_items(fields.get("input"), given)
    for name, value in fields.items():
        _look(value, name, given)
    return given


def _check_names(value: Mapping[str, object], place: str) -> None:
    """Refuse names that a reader who ignores case would take for those that are read here."""
    for name in value:
        plain = other_spelling(name, _READ_HERE)
        if plain is not None:
            param = f"{place}.{name[:100]}" if place else name[:100]
            raise InvalidRequest(f"{param!r} must be spelt {plain!r}.", param=param)


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InvalidRequest("tools must be an array of objects.", param="tools", code="invalid_type")
    for at, tool in enumerate(tools):
        if tool.get("type") not in SERVED_TOOLS:
            message = (
                f"tools[{at}].type must be one of {', '.join(SERVED_TOOLS)}: other tools cost what is not known here."
            )
            raise InvalidRequest(message, param=f"tools[{at}].type", code="unsupported_parameter")


def _check_items(items: object, given: Given) -> None:
    if items is None or isinstance(items, str):
        return
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidRequest("input must be a string or an array of objects.", param="input", code="invalid_type")
    for at, item in enumerate(items):
        _check_item(item, f"input[{at}]", given)


def _check_item(item: Mapping[str, Any], place: str, given: Given) -> None:
    """Refuse an item that brings in what is not in the request; the vendor lets messages and references go untyped."""
    kind = "message" if item.get("type") is None else item["type"]
    if _is_by_id(kind, item):
        remedy = "send the item itself, or go on with previous_response_id"
        if kind == "image_generation_call":  # of one that failed there is no more: the vendor looks it up by its id
            remedy = "send its result, leave out calls that failed, or go on with previous_response_id"
        message = f"{place} refers to something by its id; {remedy}."
        raise InvalidRequest(message, param=place, code="unsupported_parameter")
    if kind not in SERVED_ITEMS:
        message = f"{place}.type must be one of {', '.join(SERVED_ITEMS)}: others bring in what is not known here."
        raise InvalidRequest(message, param=f"{place}.type", code="unsupported_parameter")
    if kind == "compaction" or (kind == "reasoning" and not item.get("encrypted_content")):
        given.unbounded = True  # what it stands for is longer than it is, or lies with the vendor


def _is_by_id(kind: object, item: Mapping[str, Any]) -> bool:
    if kind == "message":
        return item.get("role") is None or item.get("content") is None
    if kind == "image_generation_call":
        return not (isinstance(item.get("result"), str) and item["result"])
    return kind == "item_reference" or (kind == "compaction" and not item.get("encrypted_content"))


def _look(value: object, place: str, given: Given) -> None:
    """Count a value and all that is within it; its depth was bounded when it was read."""
    given.text_bytes += _PER_VALUE
    if isinstance(value, str):
        given.text_bytes += len(value.encode("utf-8", "surrogatepass"))
        given.unbounded = given.unbounded or _LEFT_WHERE_IT_LIES.fullmatch(value) is not None
    elif isinstance(value, list):
        for at, each in enumerate(value):
            _look(each, f"{place}[{at}]", given)
    elif isinstance(value, dict):
        _look_into(value, place, given)


def _look_into(value: Mapping[str, Any], place: str, given: Given) -> None:
    kind, read_there = value.get("type"), any(pattern.fullmatch(place) for pattern in _PLACES)
    if read_there:
        _check_names(value, place)
    if kind == "input_file":
        given.unbounded = True
    if kind == "input_image" and value.get("image_url") is None:
        given.images += 1
    if read_there and value.get("file_id") is not None:
        given.lying_there[f"{place}.file_id"] = _SEND_FILE if kind == "input_file" else SEND_IMAGE
    no_text = _no_text(kind, place)
    for name, each in value.items():
        given.text_bytes += len(name.encode("utf-8", "surrogatepass"))
        if read_there and isinstance(each, str) and name in ("image_url", "file_url"):
            given.urls.append((f"{place}.{name}", each))
            given.images += name == "image_url"
        if isinstance(each, str) and name in no_text:
            given.images += name == "result"
        else:
            _look(each, f"{place}.{name}", given)


def _no_text(kind: object, place: str) -> tuple[str, ...]:
    """Return the members that the vendor takes for images and files here; everywhere else they are text."""
    if kind == "input_image" and _PART.fullmatch(place):
        return ("image_url",)
    if kind == "input_file" and _PART.fullmatch(place):
        return ("file_data", "file_url")
    if kind == "image_generation_call" and _ITEM.fullmatch(place):
        return ("result",)
    return ("image_url",) if _MASK.fullmatch(place) else ()
