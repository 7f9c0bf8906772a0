"""Errors of others, as this API's clients read them, and what they mean for money and for routing."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import pytest

from gateway.domain.settlement import Outcome
from gateway.providers.foreign_errors import in_shape
from gateway.providers.outcome import of_status

AZURE_FILTER = {
    "error": {
        "code": "contentFilter",
        "message": "Your request was rejected.",
        "param": None,
        "type": None,
        "inner_error": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_results": {
                "hate": {"filtered": False, "severity": "safe"},
                "violence": {"filtered": True, "severity": "medium"},
                "jailbreak": {"detected": True, "filtered": False},
            },
        },
    }
}
FILTERED = ["violence", "jailbreak"]


def told(status: int, body: object) -> tuple[int, Any]:
    """What becomes of an error."""
    shaped, text = in_shape(status, json.dumps(body).encode())
    return shaped, json.loads(text)


@pytest.mark.parametrize("code", ["contentFilter", "content_filter", "content_policy_violation", "400"])
@pytest.mark.parametrize("inner", ["inner_error", "innererror"])
def test_a_content_filter_is_a_moderation_error_under_any_of_its_names(code: str, inner: str) -> None:
    """By its own code or the inner one, with the categories it objected to and its own results kept."""
    error = AZURE_FILTER["error"]
    body = {name: value for name, value in error.items() if name != "inner_error"}
    status, document = told(400, {"error": {**body, "code": code, inner: error["inner_error"]}})
    assert status == 400
    assert document["error"] == {
        "message": "Your request was rejected.",
        "type": "image_generation_user_error",
        "param": None,
        "code": "moderation_blocked",
        "moderation_details": {"moderation_stage": "unknown", "categories": FILTERED},
        "content_filter_results": error["inner_error"]["content_filter_results"],  # type: ignore[index]  # a literal
    }


CASES: list[tuple[int, object, str, str | None, str | None]] = [
    # status, body; message, param, code
    (429, {"error": {"code": "429", "message": "slow down"}}, "slow down", None, "429"),
    (401, {"error": {"code": "401", "message": "Access denied"}}, "Access denied", None, "401"),
    (404, {"error": {"code": "DeploymentNotFound", "message": "none"}}, "none", None, "DeploymentNotFound"),
    (402, {"error": {"code": 402, "message": "credits", "metadata": None}}, "credits", None, "402"),
    (524, {"error": {"code": 524, "message": "timed out"}}, "timed out", None, "524"),
    (529, {"error": {"code": 529, "message": "overloaded"}}, "overloaded", None, "529"),
    (400, {"code": "Client specified an invalid argument", "error": "bad size"}, "bad size", None, None),
    (400, {"code": "invalid_argument", "error": "bad"}, "bad", None, "invalid_argument"),
    (500, {"error": "out of memory"}, "out of memory", None, None),
    (400, {"error": [{"message": "first", "code": 3}]}, "first", None, "3"),
    (400, {"detail": "n is too large"}, "n is too large", None, None),
    (503, {"detail": {"message": "starting", "code": "busy"}}, "starting", None, "busy"),
    (
        422,
        {"detail": [{"type": "value_error", "loc": ["body", "size"], "msg": "is odd"}]},
        "size: is odd",
        "size",
        None,
    ),
    (
        422,
        {"detail": [{"loc": ["body", "a"], "msg": "x"}, {"loc": ["body", "b", 0], "msg": "y"}]},
        "a: x; b.0: y",
        None,
        None,
    ),
    (400, {"code": "invalid_parameter", "message": "no strength"}, "no strength", None, "invalid_parameter"),
    (403, {"error": {"code": 403, "message": "no such model for you"}}, "no such model for you", None, "403"),
]


@pytest.mark.parametrize(("status", "body", "message", "param", "code"), CASES)
def test_every_shape_becomes_the_one_that_clients_read(
    status: int, body: object, message: str, param: str | None, code: str | None
) -> None:
    """Message, param and code are found wherever they stand; the type is always a text."""
    shaped, document = told(status, body)
    error = document["error"]
    assert (shaped, error["message"], error["param"], error["code"]) == (status, message, param, code)
    assert isinstance(error["type"], str)


@pytest.mark.parametrize(
    ("status", "body", "stage", "categories"),
    [
        (
            403,
            {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["sexual"], "flagged_input": "…"}}},
            "input",
            ["sexual"],
        ),
        (400, {"code": "x", "error": "Generated image rejected by content moderation."}, "output", []),
        (400, {"code": "content_policy_violation", "message": "no"}, "unknown", []),
    ],
)
def test_refusals_by_moderation_are_the_callers_own(
    status: int, body: object, stage: str, categories: list[str]
) -> None:
    """Whatever status they came with, they are a 400 with details."""
    shaped, document = told(status, body)
    assert (shaped, document["error"]["code"]) == (400, "moderation_blocked")
    assert document["error"]["moderation_details"] == {"moderation_stage": stage, "categories": categories}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error": null}', b'{"detail": null}', b"\xff"])
def test_what_has_no_shape_stays_as_it_came(body: bytes) -> None:
    """A page of some proxy proves nothing, and must not look as if the provider had spoken."""
    assert in_shape(502, body) == (502, body)


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason", "passed"),
    [
        (400, AZURE_FILTER, Outcome.REJECTED, "status_4xx", True),
        (401, {"error": {"code": "401", "message": "m"}}, Outcome.REJECTED, "account", False),
        (402, {"error": {"code": 402, "message": "m"}}, Outcome.REJECTED, "account_quota", False),
        (404, {"error": {"code": "DeploymentNotFound", "message": "m"}}, Outcome.REJECTED, "account", False),
        (429, {"error": {"code": "429", "message": "m"}}, Outcome.REJECTED, "status_429", False),
        (403, {"error": {"message": "m", "metadata": {"reasons": []}}}, Outcome.REJECTED, "status_4xx", True),
        (400, {"error": "Generated image rejected by content moderation"}, Outcome.UNKNOWN, "status_4xx", True),
        (422, {"detail": "m"}, Outcome.REJECTED, "status_4xx", True),
        (500, {"error": "m"}, Outcome.REJECTED, "status_5xx", False),
        (524, {"error": {"code": 524, "message": "m"}}, Outcome.UNKNOWN, "timeout", False),
        (529, {"error": {"code": 529, "message": "m"}}, Outcome.REJECTED, "status_5xx", False),
    ],
)
def test_what_an_error_means_for_money(
    status: int, body: object, outcome: Outcome, reason: str, *, passed: bool
) -> None:
    """Account faults go on to the next route, callers' own are shown, lost answers may have been billed."""
    headers = httpx.Headers({"retry-after": "7", "retry-after-ms": "1500"})
    failure = of_status(status, headers, json.dumps(body).encode(), foreign=True)
    assert (failure.outcome, failure.reason, failure.pass_on) == (outcome, reason, passed)
    assert failure.retry_after == 1.5


@pytest.mark.parametrize(
    ("before", "after"),
    [('{"detail": ', "}"), ('{"error": {"message": ', "}}"), ('{"error": {"code": 1, "more": ', "}}")],
    ids=["detail", "message", "beside"],
)
def test_an_error_that_is_nested_as_deep_as_can_be_read_is_one(before: str, after: str) -> None:
    """Where reading it just works and writing it does not, wherever that is."""
    for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit()):
        body = f"{before}{'[' * depth}{']' * depth}{after}".encode()
        failure = of_status(400, {}, body, foreign=True)
        assert (failure.outcome, failure.reason) == (Outcome.REJECTED, "status_4xx")
