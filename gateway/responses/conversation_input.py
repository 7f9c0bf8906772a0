"""Conversation input: how much text and how many images a request of a conversation carries, and what it must not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.errors import InvalidRequest
from gateway.domain.responses import SERVED_TOOLS

_PER_VALUE = 16
"""Tokens counted for each item, part or other value besides its text: what vendors put around them is not told."""
_LEFT_WHERE_IT_LIES = re.compile(r"spooled-[0-9a-f]{32}-[0-9]+", re.ASCII)
"""What stands for a string that was too long to be decoded; whoever sends such a text himself is held more for."""
_ELSEWHERE = {
    "conversation": "go on with previous_response_id",
    "prompt": "send its text as instructions and input",
}
"""Fields that bring in what the gateway cannot see, and what to use instead."""
_TIERS = (None, "auto", "default")


@dataclass(slots=True)
class Given:
    """What a request carries: bytes of text, input images, the URLs among them.

    `unbounded` tells that how much the model reads of it cannot be told from the request. `files` are the places where
    it names files by their vendor's ids.
    """

    text_bytes: int = 0
    images: int = 0
    urls: list[str] = field(default_factory=list)
    unbounded: bool = False
    files: list[str] = field(default_factory=list)


def given_by(fields: Mapping[str, object]) -> Given:
    """Look through a request's fields; InvalidRequest for what could not be priced, or is not its project's alone."""
    for name, instead in _ELSEWHERE.items():
        if fields.get(name) is not None:
            raise InvalidRequest(f"{name} is not served here: {instead}.", param=name, code="unsupported_parameter")
    if fields.get("service_tier") not in _TIERS:
        message = "service_tier must be auto or default: other tiers have other prices."
        raise InvalidRequest(message, param="service_tier", code="unsupported_parameter")
    _check_tools(fields.get("tools"))
    given = Given()
    for name, value in fields.items():
        _look(value, name, given)
    return given


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
    kind = value.get("type")
    if kind == "item_reference" or (kind == "image_generation_call" and not isinstance(value.get("result"), str)):
        message = f"{place} refers to something by its id; send the item itself, or go on with previous_response_id."
        raise InvalidRequest(message, param=place, code="unsupported_parameter")
    if kind == "input_file":
        given.unbounded = True
    if kind == "input_image" and value.get("image_url") is None:
        given.images += 1
    if value.get("file_id") is not None:
        given.files.append(f"{place}.file_id")
    for name, each in value.items():
        given.text_bytes += len(name.encode("utf-8", "surrogatepass"))
        if isinstance(each, str) and (
            name in ("image_url", "file_url") or (kind, name) == ("image_generation_call", "result")
        ):
            given.images += name != "file_url"
            given.urls += [each] if name != "result" else []
        elif isinstance(each, str) and name == "file_data":
            continue
        else:
            _look(each, f"{place}.{name}", given)
