"""One mapping from errors to answers: complete, pinned, and the same on every path."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.lifecycle  # noqa: F401 - brings the errors that the web layer does not import itself
from gateway.domain.errors import GatewayError, InvalidApiKey, RateLimited, UpstreamError
from gateway.web.errors import answer_for
from tests.web.raw import connection, exchange, post, read_reply
from tests.web.recording import RecordingGateway

GOLDEN = json.loads((Path(__file__).parent / "golden_errors.json").read_text())


def every_class(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """The class and all below it."""
    if base.__module__.startswith("gateway."):
        yield base
    for below in base.__subclasses__():
        yield from every_class(below)


def shape(error: GatewayError) -> dict[str, object]:
    """What an error looks like on the wire."""
    answer = answer_for(error, "req_1")
    headers = dict(answer.headers)
    assert headers.pop("content-length") == str(len(answer.body))
    assert len(headers) == len(answer.headers) - 1
    return {"status": answer.status, "headers": headers, "body": json.loads(answer.body)}


def test_every_error_class_has_its_pinned_shape() -> None:
    """No error class is unmapped: each has a status, a type and a code of its own that clients branch on."""
    shapes = {found.__name__: shape(found("What happened.")) for found in every_class()}

    assert shapes == GOLDEN


def test_all_that_an_error_carries_is_told() -> None:
    """Param, details, retry advice and the error's own headers reach the client; none replaces a header of ours."""
    error = RateLimited("Slow down.", param="n", retry_after=0.2, should_retry=True, details={"limit": 5})
    error.headers = [("X-RateLimit-Limit-Images", "5"), ("X-Request-Id", "forged"), ("Retry-After", "0")]

    told = shape(error)

    assert told["headers"] == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-request-id": "req_1",
        "retry-after": "1",
        "retry-after-ms": "200",
        "x-should-retry": "true",
        "x-ratelimit-limit-images": "5",
    }
    assert told["body"] == {
        "error": {
            "message": "Slow down.",
            "type": "requests",
            "param": "n",
            "code": "rate_limit_exceeded",
            "limit": 5,
        }
    }
    headers = shape(UpstreamError("Lost.", retry_after=1000, should_retry=False))["headers"]
    assert isinstance(headers, dict)
    assert (headers["retry-after"], headers["x-should-retry"]) == ("60", "false")


UNKNOWN = [
    (b"GET /", 404),
    (b"GET /v1/", 404),
    (b"GET /v1/nothing", 404),
    (b"GET /v1/images/generations", 405),
    (b"PUT /v1/images/edits", 405),
    (b"POST /v1/images/generations/", 404),
    (b"POST /v1/models", 405),
    (b"DELETE /v1/models/a/b", 405),
    (b"POST //v1/images/generations", 404),
    (b"POST /v1/../admin/keys", 404),
    (b"POST /v1/images/generations%3Fx", 404),
    (b"POST /v1/images/generations;x", 404),
    (b"DELETE /v1/tasks/task_1", 405),
    (b"POST /v1/tasks", 405),
    (b"GET /v1/tasks/task_1/cancel", 405),
    (b"GET /openai/v1/tasks/task_1/cancel", 405),
    (b"PUT /v1/requests/req_1", 405),
    (b"GET /v1/responses", 405),
    (b"POST /v1/responses/compact", 404),
    (b"POST /openai/v1/responses/input_tokens", 404),
    (b"POST /v1/responses/resp_1", 405),
    (b"OPTIONS /v1/models", 405),
    (b"TRACE /healthz", 405),
    (b"GET /openai/deployments/a/b/images/edits", 404),
    (b"GET /" + b"x" * 5000, 404),
]


async def test_unknown_paths_and_methods_have_the_same_shape(port: int) -> None:
    """404 and 405 come in OpenAI's shape with a request id, and 405 says what is allowed."""
    async with connection(port) as (reader, writer):
        for line, status in UNKNOWN:
            writer.write(line + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            reply = await read_reply(reader)
            assert (reply.status, line) == (status, line)
            assert reply.error["type"] == "invalid_request_error"
            assert reply.error["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
            assert len(reply.body) < 500
            assert reply.headers["x-request-id"].startswith("req_")
            assert ("allow" in reply.headers) == (status == 405)


async def test_a_refused_method_is_told_of_every_method_that_the_path_takes(port: int) -> None:
    """Where a path is read and deleted, `allow` names both."""
    async with connection(port) as (reader, writer):
        for path in (b"/v1/assets/img_1", b"/v1/responses/resp_1"):
            writer.write(b"PUT " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            reply = await read_reply(reader)
            assert (reply.status, reply.headers["allow"]) == (405, "DELETE, GET, HEAD")


async def test_a_bug_is_logged_once_and_tells_nothing(
    port: int, gateway: RecordingGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception nobody expected gives a 500 with the request id, one log record, and none of its text."""
    gateway.crash = ZeroDivisionError("secret detail")

    reply, _ = await exchange(port, post())

    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert "secret" not in reply.body.decode()
    assert reply.headers["x-request-id"] in reply.error["message"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert reply.headers["x-request-id"] in record.getMessage()


async def test_the_connection_survives_an_error_where_it_can(port: int, gateway: RecordingGateway) -> None:
    """After an error with a short unread body the next request on the connection is served."""
    gateway.refuse = InvalidApiKey("No.")
    async with connection(port) as (reader, writer):
        writer.write(post())
        reply = await read_reply(reader)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        gateway.refuse = None
        writer.write(post())
        assert (await read_reply(reader)).status == 200


@pytest.mark.parametrize(
    ("path", "header", "status", "code"),
    [
        (b"/v1/images/generations", b"Content-Type: multipart/form-data; boundary=x", 415, "unsupported_media_type"),
        (b"/v1/images/generations", b"Content-Type: text/plain", 415, "unsupported_media_type"),
        (b"/v1/images/generations", b"Content-Type: application/json; charset=utf-16", 415, "unsupported_media_type"),
        (b"/v1/images/generations", b"X-No-Type: 1", 415, "unsupported_media_type"),
        (b"/v1/images/edits", b"Content-Type: application/octet-stream", 415, "unsupported_media_type"),
        (b"/v1/images/edits", b"Content-Type: multipart/form-data", 400, "invalid_multipart"),
        (
            b"/v1/images/edits",
            b"Content-Type: application/json\r\nContent-Encoding: gzip",
            415,
            "unsupported_media_type",
        ),
        (
            b"/v1/images/generations",
            b"Content-Type: application/json\r\nContent-Encoding: br",
            415,
            "unsupported_media_type",
        ),
    ],
)
async def test_other_encodings_are_refused_unread(
    port: int, path: bytes, header: bytes, status: int, code: str
) -> None:
    """A content type or encoding that is not read here is refused before the body comes, naming what is read."""
    head = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n" + header + b"\r\nContent-Length: 1000000\r\n\r\n"

    reply, _ = await exchange(port, head)

    assert (reply.status, reply.error["code"]) == (status, code)
    if status == 415 and b"encoding" not in header.lower() and b"charset" not in header:
        assert "application/json" in reply.error["message"]


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(port: int) -> None:
    """Where the length is known the answer is 413 at once, and a client that waits to be asked is not asked."""
    large = b"Content-Type: application/json\r\nContent-Length: 200000000\r\n"
    for extra in (b"", b"Expect: 100-continue\r\n"):
        head = b"POST /v1/images/generations HTTP/1.1\r\nHost: a\r\n" + large + extra + b"\r\n"
        reply, _ = await exchange(port, head)
        assert (reply.status, reply.error["code"]) == (413, "request_too_large")
        assert reply.headers["connection"] == "close"
