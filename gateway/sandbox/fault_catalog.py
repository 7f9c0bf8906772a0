"""Every fault there is, with its parameters and their defaults: one table that code, errors and documentation share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any


class Stage(Enum):
    """When a fault strikes."""

    ARRIVAL = "before the body is read"
    REFUSAL = "instead of the work"
    CONTENT = "after the work: the answer says something wrong"
    DELIVERY = "after the work: the answer arrives badly or not at all"


class Kind(StrEnum):
    """What a parameter takes, in words for the error message."""

    COUNT = "a whole number from 0 on"
    COUNT_OR_NONE = "a whole number from 0 on, or null"
    PERCENT = "a whole number from 0 to 99"
    STATUS = "an HTTP status from 200 to 599"
    SECONDS = "a number of seconds from 0 on"
    RETRY_AFTER = "a number of seconds, a text sent as it is, or null for no such header"
    FLAG = "true or false"
    TEXT = "a text"
    TEXT_OR_NONE = "a text or null"
    TEXTS = "a list of texts"
    HEADERS = "an object of header names and texts"
    ANYTHING = "anything"

    def accepts(self, value: object) -> bool:
        """Say whether the value is of this kind."""
        return _ACCEPTS[self](value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _header_text(value: object) -> bool:
    """Say whether the value can stand in a header line."""
    return isinstance(value, str) and value.isascii() and value.isprintable()


_ACCEPTS: Mapping[Kind, Callable[[Any], bool]] = {
    Kind.COUNT: _whole,
    Kind.COUNT_OR_NONE: lambda value: value is None or _whole(value),
    Kind.PERCENT: lambda value: _whole(value) and value < 100,  # noqa: PLR2004 - percent
    Kind.STATUS: lambda value: _whole(value) and value in range(200, 600),
    Kind.SECONDS: lambda value: _number(value) and value >= 0,
    Kind.RETRY_AFTER: lambda value: value is None or _number(value) or _header_text(value),
    Kind.FLAG: lambda value: isinstance(value, bool),
    Kind.TEXT: lambda value: isinstance(value, str),
    Kind.TEXT_OR_NONE: lambda value: value is None or isinstance(value, str),
    Kind.TEXTS: lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    Kind.HEADERS: lambda value: (
        isinstance(value, dict) and all(_header_text(name) and _header_text(text) for name, text in value.items())
    ),
    Kind.ANYTHING: lambda _: True,
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a fault."""

    kind: Kind
    default: Any


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault. `billed` holds where it has no parameter of that name; `stream_only` faults pass other requests by."""

    stage: Stage
    billed: bool
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    stream_only: bool = False


_BILLED = {"billed": Parameter(Kind.FLAG, True)}
_NOT_BILLED = {"billed": Parameter(Kind.FLAG, False)}
_ERROR = {
    "message": Parameter(Kind.TEXT, "The server had an error while processing your request. Sorry about that!"),
    "type": Parameter(Kind.TEXT, "server_error"),
    "code": Parameter(Kind.TEXT_OR_NONE, None),
}
_GARBAGE_USAGE = {"input_tokens": -7, "output_tokens": "many", "total_tokens": 1e30, "input_tokens_details": None}

FAULTS: Mapping[str, FaultSpec] = {
    "connection_closed": FaultSpec(Stage.ARRIVAL, billed=False, parameters={"rst": Parameter(Kind.FLAG, False)}),
    "status": FaultSpec(
        Stage.REFUSAL,
        billed=False,
        parameters={
            "status": Parameter(Kind.STATUS, 500),
            **_ERROR,
            "bare": Parameter(Kind.FLAG, False),
            "headers": Parameter(Kind.HEADERS, {}),
        },
    ),
    "rate_limit": FaultSpec(Stage.REFUSAL, billed=False, parameters={"retry_after": Parameter(Kind.RETRY_AFTER, 1)}),
    "moderation": FaultSpec(
        Stage.REFUSAL,
        billed=False,
        parameters={
            "stage": Parameter(Kind.TEXT, "input"),
            "categories": Parameter(Kind.TEXTS, ["violence"]),
            **_NOT_BILLED,
        },
    ),
    "html": FaultSpec(
        Stage.CONTENT,
        billed=False,
        parameters={
            "status": Parameter(Kind.STATUS, 200),
            "body": Parameter(Kind.TEXT, "<html><body><h1>Just a moment...</h1></body></html>"),
            **_NOT_BILLED,
        },
    ),
    "garbage": FaultSpec(
        Stage.CONTENT,
        billed=True,
        parameters={"body": Parameter(Kind.TEXT, '{"created": 17, "data": [{"b64_json": "iVBOR'), **_BILLED},
    ),
    "no_usage": FaultSpec(Stage.CONTENT, billed=True),
    "zero_usage": FaultSpec(Stage.CONTENT, billed=True),
    "garbage_usage": FaultSpec(
        Stage.CONTENT, billed=True, parameters={"usage": Parameter(Kind.ANYTHING, _GARBAGE_USAGE)}
    ),
    "wrong_count": FaultSpec(Stage.CONTENT, billed=True, parameters={"images": Parameter(Kind.COUNT_OR_NONE, None)}),
    "pad": FaultSpec(Stage.CONTENT, billed=True, parameters={"bytes": Parameter(Kind.COUNT, 20_000_000)}),
    "truncated_stream": FaultSpec(Stage.CONTENT, billed=True, parameters=_BILLED, stream_only=True),
    "error_in_stream": FaultSpec(Stage.CONTENT, billed=True, parameters={**_ERROR, **_BILLED}, stream_only=True),
    "slow": FaultSpec(Stage.DELIVERY, billed=True, parameters={"seconds": Parameter(Kind.SECONDS, 1)}),
    "slow_body": FaultSpec(
        Stage.DELIVERY,
        billed=True,
        parameters={"seconds": Parameter(Kind.SECONDS, 1), "pieces": Parameter(Kind.COUNT, 10)},
    ),
    "half_body": FaultSpec(
        Stage.DELIVERY,
        billed=True,
        parameters={"percent": Parameter(Kind.PERCENT, 50), "rst": Parameter(Kind.FLAG, False)},
    ),
    "lost_response": FaultSpec(Stage.DELIVERY, billed=True),
    "reset": FaultSpec(Stage.DELIVERY, billed=True, parameters=_BILLED),
    "timeout": FaultSpec(Stage.DELIVERY, billed=True, parameters=_BILLED),
}
