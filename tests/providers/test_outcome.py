"""Each failure means one thing for money and routing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from gateway.domain.settlement import Outcome
from gateway.providers.outcome import of_status, of_transport, retry_after

ERROR = b'{"error": {"message": "no", "type": "t", "param": null, "code": "some_code"}}'
HTML = b"<html>Bad gateway</html>"
CALLERS = "status_4xx"


def coded(code: str) -> bytes:
    """An error body with this code."""
    return json.dumps({"error": {"message": "no", "code": code}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason"),
    [
        *[(status, ERROR, Outcome.REJECTED, CALLERS) for status in (400, 409, 413, 415, 422, 451)],
        *[(status, ERROR, Outcome.REJECTED, "account") for status in (401, 403, 404, 405, 410, 431)],
        (402, ERROR, Outcome.REJECTED, "account_quota"),
        (400, coded("billing_hard_limit_reached"), Outcome.REJECTED, "account_quota"),
        (400, coded("moderation_blocked"), Outcome.REJECTED, CALLERS),
        (429, ERROR, Outcome.REJECTED, "status_429"),
        (429, HTML, Outcome.REJECTED, "status_429"),
        *[
            (429, coded(code), Outcome.REJECTED, "account_quota")
            for code in (
                "insufficient_quota",
                "credit_balance_exhausted",
                "project_spend_limit_exceeded",
                "organization_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
                "billing_hard_limit_reached",
            )
        ],
        *[(status, ERROR, Outcome.REJECTED, "status_5xx") for status in (500, 501, 502, 503, 529)],
        *[(status, HTML, Outcome.REJECTED, "status_5xx") for status in (500, 503, 529)],
        *[(status, HTML, Outcome.UNKNOWN, "status_5xx") for status in (501, 502, 520, 521, 523, 599)],
        *[(status, b'{"error": "text"}', Outcome.UNKNOWN, "status_5xx") for status in (502, 520)],
        *[(status, ERROR, Outcome.UNKNOWN, "timeout") for status in (408, 499, 504, 522, 524)],
        (520, ERROR, Outcome.UNKNOWN, "status_5xx"),
        *[(status, HTML, Outcome.REJECTED, "redirect") for status in (301, 302, 304, 307, 308)],
        (303, HTML, Outcome.UNKNOWN, "redirect"),
    ],
)
def test_status(status: int, body: bytes, outcome: Outcome, reason: str) -> None:
    """A status, and the error object beside it, decide the outcome; only the caller's own faults are passed on."""
    failure = of_status(status, {}, body)
    assert (failure.outcome, failure.reason) == (outcome, reason)
    assert failure.pass_on is (reason == CALLERS)
    assert failure.status == status


def moderated(stage: str, code: str = "moderation_blocked") -> bytes:
    """A content filter's refusal, at this stage."""
    details = {"moderation_stage": stage, "categories": []}
    return json.dumps({"error": {"message": "no", "code": code, "moderation_details": details}}).encode()


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (moderated("input"), Outcome.REJECTED),
        (moderated("output"), Outcome.UNKNOWN),
        (moderated("unknown"), Outcome.UNKNOWN),
        (coded("moderation_blocked"), Outcome.REJECTED),
        (coded("content_policy_violation"), Outcome.REJECTED),
    ],
)
def test_an_image_that_may_have_been_made_may_have_been_billed(body: bytes, outcome: Outcome, *, foreign: bool) -> None:
    """A stage that the provider calls unknown is one; where it names none, only our own words for it say unknown."""
    failure = of_status(400, {}, body, foreign=foreign)
    assert (failure.outcome, failure.reason, failure.pass_on) == (outcome, CALLERS, True)


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (400, coded("moderation_blocked"), "moderated"),
        (400, coded("content_policy_violation"), "moderated"),
        (400, moderated("input"), "moderated"),
        (400, b'{"detail": "content policy violation"}', "moderated"),
        (400, moderated("output"), None),
        *[(status, ERROR, "invalid") for status in (400, 422)],
        (422, b'{"detail": [{"loc": ["body", "size"], "msg": "bad", "type": "x"}]}', "invalid"),
        (400, HTML, None),
        *[(status, ERROR, None) for status in (401, 402, 404, 409, 413, 415, 429, 451, 500, 504)],
        (400, coded("billing_hard_limit_reached"), None),
    ],
)
def test_what_a_refusal_may_be_charged_for(status: int, body: bytes, word: str | None, *, foreign: bool) -> None:
    """What the provider judged the request to be, where it judged it at all; the price row says what that costs."""
    assert of_status(status, {}, body, foreign=foreign).charged_for == word


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (httpx.ConnectError(""), Outcome.NOT_SENT, "connect"),
        (httpx.ConnectTimeout(""), Outcome.NOT_SENT, "connect"),
        (httpx.ReadTimeout(""), Outcome.UNKNOWN, "timeout"),
        (httpx.WriteTimeout(""), Outcome.UNKNOWN, "timeout"),
        (httpx.ReadError(""), Outcome.UNKNOWN, "reset"),
        (httpx.RemoteProtocolError(""), Outcome.UNKNOWN, "garbage"),
    ],
)
def test_transport(error: httpx.TransportError, outcome: Outcome, reason: str) -> None:
    """Only a failure to connect is free of charge."""
    failure = of_transport(error)
    assert (failure.outcome, failure.reason) == (outcome, reason)


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError])
def test_a_transport_error_tells_the_client_nothing_of_the_provider(kind: type[httpx.TransportError]) -> None:
    """Its text may hold the base URL, which may hold a secret, and pieces of an answer."""
    failure = of_transport(kind("400, message='b64_json', url='https://internal/secret-token/v1'"))
    assert failure.message
    assert not any(word in failure.message for word in ("internal", "secret-token", "b64_json"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "1000000000"}, 120.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 120.0),
        ({"retry-after-ms": "250", "retry-after": "12"}, 0.25),
        ({"retry-after-ms": "-1", "retry-after": "12"}, 12.0),
        ({"retry-after-ms": "1e9"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds, dates and nonsense become a wait of at most two minutes, or none."""
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (429, {}, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, 30.0),
        (429, {}, {"error": {"message": "Please retry after 34 seconds."}}, 34.0),
        (429, {}, {"error": {"message": "Retry after 1 second."}}, 1.0),
        (429, {}, {"error": {"message": "It resets in 99999 s."}}, 120.0),
        (429, {"retry-after": "7"}, {"error": {"message": "retry after 34 seconds"}}, 7.0),
        (429, {}, {"error": {"message": "retry after 34 minutes"}}, None),
        (429, {}, {"error": {"message": "retry after 3.5 steps"}}, None),
        (429, {}, {"error": {"message": f"retry after {'9' * 5000}s"}}, None),
        (503, {}, {"error": {"message": "retry after 34 seconds"}}, None),
        (429, {}, "retry after 34 seconds", None),
    ],
)
def test_how_long_to_wait_may_stand_in_the_words(
    status: int, headers: dict[str, str], body: object, seconds: float | None
) -> None:
    """Of a 429 that has no header for it, bounded likewise."""
    assert of_status(status, headers, json.dumps(body).encode()).retry_after == seconds


def test_retry_after_a_date_to_come() -> None:
    """A date is counted from now."""
    date = datetime.now(UTC) + timedelta(seconds=60)
    wait = retry_after({"retry-after": format_datetime(date, usegmt=True)})
    assert wait is not None
    assert 50 <= wait <= 60


def test_the_callers_fault_comes_as_it_came() -> None:
    """A moderation error keeps every byte, its details included."""
    error = b'{"type":"t","param":null,"code":"a b","moderation_details":{"x":[]},  "message":"\\u00e9"}'
    body = b'{"error": %s, "more":1}' % error
    assert of_status(400, {}, body).body == body


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        ({}, "The provider answered 400.", None),
        ({"message": None, "code": True, "type": None}, "The provider answered 400.", None),
        ({"message": ["x"], "code": 5, "param": {}}, '["x"]', "5"),
        ({"message": "m", "code": "two words"}, "m", "two words"),
    ],
)
def test_what_an_error_object_lacks_is_filled_in(error: dict[str, object], message: str, code: str | None) -> None:
    """Clients find a message, a type, a param and a code of the right types; all else stays."""
    body = json.dumps({"error": {**error, "inner": [1]}, "beside": 2}).encode()
    told = json.loads(of_status(400, {}, body).body)
    expected = {"message": message, "type": "invalid_request_error", "param": None, "code": code, "inner": [1]}
    assert told == {"error": expected, "beside": 2}


@pytest.mark.parametrize("body", [{"detail": "n is odd"}, {"message": "n is odd"}, {"error": "n is odd"}])
@pytest.mark.parametrize("status", [400, 422])
def test_the_words_of_a_refusal_in_another_shape_are_kept(status: int, body: object) -> None:
    """Servers of that API that are built of other parts tell what is wrong in other places."""
    failure = of_status(status, {}, json.dumps(body).encode())
    assert (failure.status, failure.pass_on) == (status, True)
    assert json.loads(failure.body)["error"] == {
        "message": "n is odd",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_a_refusal_that_is_no_json_gets_openais_shape() -> None:
    """A proxy's HTML page in place of an error object is not shown to an SDK."""
    error = json.loads(of_status(413, {}, b"<html>too large</html>").body)["error"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("secret", ["sk-provider-0123456789", 'sk-"quoted"\\0123456789'])
def test_the_secret_is_scrubbed(secret: str) -> None:
    """A provider that repeats our key in its error does not leak it."""
    body = json.dumps({"error": {"message": f"Incorrect key {secret}.", "code": "x"}}).encode()
    scrubbed = of_status(400, {}, body, secret=secret).body
    assert secret.encode() not in scrubbed
    assert secret not in json.loads(scrubbed)["error"]["message"]


def test_nothing_of_the_providers_text_is_in_the_message() -> None:
    """The message, which may be logged, has the status and a plain code, and no text of the provider."""
    assert of_status(401, {}, ERROR).message == "the provider answered 401 (some_code)"
    assert "evil" not in of_status(401, {}, coded("evil\ncode")).message
