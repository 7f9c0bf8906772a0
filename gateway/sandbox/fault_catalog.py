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
    WORK = "while work goes on in its own time"
    ASKED = "when work is asked after"
    CALLBACK = "when the client is called back"
    BATCH = "when a batch is created, or while it is done"


WORK_STAGES = frozenset({Stage.WORK, Stage.ASKED, Stage.CALLBACK})
"""Stages that only providers have that answer later; work meets one fault of each besides one of the others."""


class Feature(StrEnum):
    """What a provider may have, and must for some faults to be seen."""

    STREAMS = "answers in streams"
    WORK = "work that is answered later"
    BATCHES = "batches"


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
    FORMAT = "png, jpeg or webp"
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
    Kind.FORMAT: lambda value: value in ("png", "jpeg", "webp"),
    Kind.ANYTHING: lambda _: True,
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a fault."""

    kind: Kind
    default: Any


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault. `billed` holds where it has no parameter of that name.

    `stream_only` faults pass other requests by, and `work_only` those of providers that answer at once.
    """

    stage: Stage
    billed: bool
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    stream_only: bool = False
    work_only: bool = False

    @property
    def needs(self) -> Feature | None:
        """What a provider must have to show it, if that is anything."""
        if self.stage is Stage.BATCH:
            return Feature.BATCHES
        if self.work_only or self.stage in WORK_STAGES:
            return Feature.WORK
        return Feature.STREAMS if self.stream_only else None


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
    "int_error_code": FaultSpec(
        Stage.REFUSAL,
        billed=False,
        parameters={
            "status": Parameter(Kind.STATUS, 400),
            "message": Parameter(Kind.TEXT, "Invalid request parameters"),
            "type": Parameter(Kind.TEXT, "invalid_parameters"),
        },
        work_only=True,
    ),
    "stuck": FaultSpec(Stage.WORK, billed=False),
    "slow_work": FaultSpec(Stage.WORK, billed=True, parameters={"seconds": Parameter(Kind.SECONDS, 2)}),
    "task_error": FaultSpec(
        Stage.WORK,
        billed=False,
        parameters={
            "code": Parameter(Kind.TEXT, "service_error"),
            "message": Parameter(Kind.TEXT, "The service failed to make the image."),
            **_NOT_BILLED,
        },
    ),
    "fewer_results": FaultSpec(Stage.WORK, billed=True, parameters={"images": Parameter(Kind.COUNT_OR_NONE, None)}),
    "wrong_format": FaultSpec(Stage.WORK, billed=True, parameters={"format": Parameter(Kind.FORMAT, "jpeg")}),
    "poll_error": FaultSpec(
        Stage.ASKED,
        billed=True,
        parameters={"status": Parameter(Kind.STATUS, 500), "polls": Parameter(Kind.COUNT_OR_NONE, 1)},
    ),
    "unknown_status": FaultSpec(
        Stage.ASKED,
        billed=True,
        parameters={"word": Parameter(Kind.TEXT, "archiving"), "polls": Parameter(Kind.COUNT_OR_NONE, 1)},
    ),
    "expired_link": FaultSpec(Stage.ASKED, billed=True, parameters={"status": Parameter(Kind.STATUS, 404)}),
    "callback_early": FaultSpec(Stage.CALLBACK, billed=True),
    "callback_late": FaultSpec(Stage.CALLBACK, billed=True, parameters={"seconds": Parameter(Kind.SECONDS, 2)}),
    "callback_twice": FaultSpec(Stage.CALLBACK, billed=True),
    "callback_missing": FaultSpec(Stage.CALLBACK, billed=True),
    "callback_forged": FaultSpec(Stage.CALLBACK, billed=True),
    "batch_not_taken": FaultSpec(Stage.BATCH, billed=False, parameters={"status": Parameter(Kind.STATUS, 500)}),
    "batch_lost": FaultSpec(Stage.BATCH, billed=True),
    "batch_refused": FaultSpec(
        Stage.BATCH,
        billed=False,
        parameters={
            "code": Parameter(Kind.TEXT, "token_limit_exceeded"),
            "message": Parameter(Kind.TEXT, "Enqueued token limit reached for this model in this organization."),
        },
    ),
    "batch_expired": FaultSpec(Stage.BATCH, billed=True, parameters={"percent": Parameter(Kind.PERCENT, 50)}),
    "batch_lines_fail": FaultSpec(
        Stage.BATCH,
        billed=False,
        parameters={"percent": Parameter(Kind.PERCENT, 50), "status": Parameter(Kind.STATUS, 500)},
    ),
}
