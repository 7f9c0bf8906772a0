"""Errors as HTTP answers: the one place that turns a GatewayError into a status, headers and a body."""

from __future__ import annotations

import math
from typing import NamedTuple

from starlette.exceptions import HTTPException

from gateway.domain.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from gateway.domain.passing import remedy
from gateway.ports import Headers

_SHOWN_PATH = 200


class RequestTimeout(InvalidRequest):
    """The client sent its request too slowly."""

    status = 408
    default_code = "request_timeout"


class UriTooLong(InvalidRequest):
    """The request's first line is too long."""

    status = 414
    default_code = "uri_too_long"


class HeadersTooLarge(InvalidRequest):
    """The header block has too many bytes or fields."""

    status = 431
    default_code = "headers_too_large"


class ErrorAnswer(NamedTuple):
    """An error ready to be sent."""

    status: int
    headers: Headers
    body: bytes


def answer_for(error: GatewayError, request_id: str) -> ErrorAnswer:
    """Return status, headers (lower case) and JSON body; the error's own headers come last and replace none."""
    body = error.written()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-request-id": request_id,
    }
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        headers["retry-after-ms"] = str(math.ceil(error.retry_after * 1000))
    if error.should_retry is not None:
        headers["x-should-retry"] = "true" if error.should_retry else "false"
    if error.status == 401:  # noqa: PLR2004 - the one status that asks for a challenge (RFC 9110, 11.6.1)
        headers["www-authenticate"] = "Bearer"
    own = [(name.lower(), value) for name, value in error.headers if name.lower() not in headers]
    return ErrorAnswer(error.status, [*headers.items(), *own], body)


def from_router(refusal: HTTPException, method: str, path: str) -> GatewayError:
    """Return the GatewayError for what the router refused."""
    shown = path if len(path) <= _SHOWN_PATH else f"{path[:_SHOWN_PATH]}…"
    if refusal.status_code == NotFound.status:
        return NotFound(f"Unknown path: {method} {shown}. {remedy(path)}")
    if refusal.status_code == MethodNotAllowed.status:
        allowed = ", ".join(sorted((refusal.headers or {}).get("Allow", "").split(", ")))
        error: GatewayError = MethodNotAllowed(f"{shown} does not take {method}; it takes {allowed}.")
        error.headers = [("allow", allowed)]
        return error
    error = InvalidRequest(refusal.detail)
    error.status = refusal.status_code
    return error
