"""Outcome: the one place that decides what a failed call means for money and for routing.

| what happened                                        | outcome  | reason         | shown to the caller |
|------------------------------------------------------|----------|----------------|---------------------|
| name lookup, refused, TLS, connect timeout           | NOT_SENT | connect        | no                  |
| no answer in time, or a stall in mid-request         | UNKNOWN  | timeout        | no                  |
| closed, reset, broken off, after a byte was sent     | UNKNOWN  | reset          | no                  |
| an answer that is not HTTP, or not what was asked    | UNKNOWN  | garbage        | no                  |
| 400 409 413 415 422 451                              | REJECTED | status_4xx     | as it came          |
| one of these for an image made and then withheld     | UNKNOWN  | status_4xx     | as it came          |
| any 4xx whose code says that our account is spent    | REJECTED | account_quota  | no                  |
| 402                                                  | REJECTED | account_quota  | no                  |
| 401 403 404 and all other 4xx                        | REJECTED | account        | no                  |
| 429                                                  | REJECTED | status_429     | no                  |
| 408, 499, 504, 522, 524                              | UNKNOWN  | timeout        | no                  |
| 500 503 529, and other 5xx with a JSON `error`       | REJECTED | status_5xx     | no                  |
| 502 and other 5xx without one; 520 521 523 always    | UNKNOWN  | status_5xx     | no                  |
| 303                                                  | UNKNOWN  | redirect       | no; never followed  |
| all other 3xx                                        | REJECTED | redirect       | no; never followed  |

A gateway in front of the provider (502 without its error object, 504, 520 to 524) lost an answer, and the work may
have been done and billed. A 303 says that the answer to what was done lies elsewhere (RFC 9110, 15.4.4). Withheld is
a moderation error of the stage `output`, or of one that the provider itself calls `unknown`: whether it is billed is
not published. Codes of a spent account are those that clients of the vendor take for final. What is shown as it came
has what it lacks of an error filled in.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from http import HTTPStatus

import httpx

from gateway.domain.price import Charged
from gateway.domain.retry import retry_after_seconds
from gateway.domain.settlement import Outcome
from gateway.ports import Headers
from gateway.ports.provider import UpstreamFailure
from gateway.providers.foreign_errors import PLAIN_CODE, filled, in_shape, is_moderation

log = logging.getLogger("gateway.providers")

MAX_RETRY_AFTER = 120.0
"""Seconds; a provider that asks for more is asked again after this."""

_ACCOUNT_SPENT = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "project_spend_limit_exceeded",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
    }
)
_CLIENT_ERRORS = range(400, 500)
CALLERS_FAULT = frozenset({400, 409, 413, 415, 422, 451})
"""Statuses by which a provider refuses what the caller asked for."""
_TIMED_OUT = frozenset({408, 499, 504, 522, 524})
_LOST_BY_A_PROXY = frozenset({520, 521, 523})
_DECLINED = frozenset({500, 503, 529})
_FOUND_INVALID = frozenset({400, 422})

_TOLD = {
    "connect": "the provider cannot be reached",
    "timeout": "the provider did not answer in time",
    "reset": "the connection to the provider broke off",
    "garbage": "the provider's answer is not valid HTTP",
}
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)
_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_WAIT_IN_WORDS = re.compile(
    r"\b(?:retry after|resets in) ~?([0-9]{1,6}) ?s(?:ec(?:ond)?s?)?\b", re.ASCII | re.IGNORECASE
)
_SHORTEST_SECRET = 6


LIMIT_HEADERS = ("x-ratelimit-", "retry-after")
"""How the names of headers begin that tell of the account's limits."""


def of_transport(error: httpx.TransportError) -> UpstreamFailure:
    """Judge a failure of the connection, by what the transport promises of its errors."""
    if isinstance(error, _NOT_SENT):
        outcome, reason = Outcome.NOT_SENT, "connect"
        log.warning("a provider cannot be reached: %s", error)
    elif isinstance(error, httpx.TimeoutException):
        outcome, reason = Outcome.UNKNOWN, "timeout"
    else:
        outcome, reason = Outcome.UNKNOWN, "garbage" if isinstance(error, httpx.ProtocolError) else "reset"
    # The error's own text may hold the provider's URL and pieces of an answer: it is not for clients.
    return UpstreamFailure(outcome, reason, _TOLD[reason])


def of_garbage(message: str, status: int | None = None) -> UpstreamFailure:
    """Judge an answer that says success and cannot be used."""
    return UpstreamFailure(Outcome.UNKNOWN, "garbage", message, status=status)


def of_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    passed: Headers = (),
    secret: str | None = None,
    foreign: bool = False,
) -> UpstreamFailure:
    """Judge an answer that is no success.

    `headers` have lower-case names; `passed` are those that may be shown. `body` is the answer's, cut at the reader's
    limit; the failure carries it without the provider's secret, as an object in OpenAI's shape even where it was none.
    What a 4xx says in another shape is put into this one, and of a content filter's refusal it is a 400; what a
    `foreign` provider says always is.
    """
    error = own = error_object(body)
    if foreign or (own is None and status in _CLIENT_ERRORS):  # beyond them it may be a proxy that speaks
        status, body = in_shape(status, body)
        error = error_object(body)
    code = error_code(error) if error is not None else None
    outcome, reason = _judge(status, code, has_error=error is not None)
    if reason == "status_4xx" and (_stage(error) == "output" or _stage(own) == "unknown"):
        outcome = Outcome.UNKNOWN
    return UpstreamFailure(
        outcome,
        reason,
        f"the provider answered {status}" + (f" ({code})" if code else ""),
        status=status,
        code=code or "",
        headers=[("content-type", "application/json"), *(header for header in passed if header[0] != "content-type")],
        body=scrub(filled(status, body), secret) if error is not None else _error_body(status),
        pass_on=reason == "status_4xx",
        retry_after=_wait(status, headers, error),
        rate_limits={name: value for name, value in headers.items() if name.startswith(LIMIT_HEADERS)},
        charged_for=_charged_for(status, error) if (outcome, reason) == (Outcome.REJECTED, "status_4xx") else None,
    )


def refusal(status: int) -> str | None:
    """Return the reason where the status alone says that the work was not done; None for all others."""
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    outcome, reason = _judge(status, None, has_error=False)
    return reason if outcome is Outcome.REJECTED else None


def _stage(error: Mapping[str, object] | None) -> object:
    """Return at which stage moderation refused, by the error: of `output` the image was made and then withheld."""
    details = None if error is None else error.get("moderation_details")
    return details.get("moderation_stage") if isinstance(details, dict) else None


def _charged_for(status: int, error: Mapping[str, object] | None) -> Charged | None:
    """Return what the provider judged the caller's request to be; None where it said nothing: a proxy may have."""
    if error is None:
        return None
    if is_moderation(status, error):
        return Charged.MODERATED
    return Charged.INVALID if status in _FOUND_INVALID else None


def _judge(status: int, code: str | None, *, has_error: bool) -> tuple[Outcome, str]:
    if status < HTTPStatus.BAD_REQUEST:
        return (Outcome.UNKNOWN if status == HTTPStatus.SEE_OTHER else Outcome.REJECTED), "redirect"
    if status in _TIMED_OUT:
        return Outcome.UNKNOWN, "timeout"
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.REJECTED, _fault(status, code)
    if status not in _LOST_BY_A_PROXY and (has_error or status in _DECLINED):
        return Outcome.REJECTED, "status_5xx"
    return Outcome.UNKNOWN, "status_5xx"


def _fault(status: int, code: str | None) -> str:
    if code in _ACCOUNT_SPENT or status == HTTPStatus.PAYMENT_REQUIRED:
        return "account_quota"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "status_429"
    return "status_4xx" if status in CALLERS_FAULT else "account"


def error_object(body: bytes) -> Mapping[str, object] | None:
    """Return the `error` object of a JSON body, or None if there is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else None


def error_code(error: object) -> str:
    """Return the code of an error object, else its type, else `error`; always a short plain word."""
    if isinstance(error, dict):
        for name in ("code", "type"):
            value = error.get(name)
            if isinstance(value, str) and PLAIN_CODE.fullmatch(value):
                return value
    return "error"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait by `retry-after-ms` or `retry-after` (seconds or a date); None if neither says."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, MAX_RETRY_AFTER)
    wait = retry_after_seconds(headers.get("retry-after", ""), time.time())
    return None if wait is None else min(wait, MAX_RETRY_AFTER)


def _wait(status: int, headers: Mapping[str, str], error: Mapping[str, object] | None) -> float | None:
    """Return the seconds to wait by the headers; of a 429 without one, by the words of its error."""
    told, message = retry_after(headers), None if error is None else error.get("message")
    if told is not None or status != HTTPStatus.TOO_MANY_REQUESTS or not isinstance(message, str):
        return told
    words = _WAIT_IN_WORDS.search(message)
    return None if words is None else min(float(words[1]), MAX_RETRY_AFTER)


def scrub(body: bytes, secret: str | None) -> bytes:
    """Return the body without the provider's secret, should it repeat it."""
    if secret is None or len(secret) < _SHORTEST_SECRET:
        return body
    for form in {secret, json.dumps(secret)[1:-1]}:
        body = body.replace(form.encode(), b"***")
    return body


def _error_body(status: int) -> bytes:
    message = f"The provider refused the request with status {status} and gave no reason."
    kind = "invalid_request_error" if status in _CLIENT_ERRORS else "server_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}).encode()
