"""Which requests become tasks, and on which terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.domain.errors import InvalidRequest
from gateway.domain.job import Wishes
from gateway.domain.policy import Project
from gateway.routing.task_terms import TaskTerms, plain_guard, task_terms
from gateway.steps.accept import accept
from tests.builders import job

PROJECT = Project("team", ("draft",), "draft")
HOOK = "https://example.com/hook"


def terms(
    fields: Mapping[str, object], wishes: Wishes | None = None, project: Project = PROJECT, *, stream: bool = False
) -> TaskTerms | None:
    """The terms of a generation with these fields."""
    return task_terms(job(stream=stream), fields, wishes or Wishes(), project, plain_guard)


@pytest.mark.parametrize("fields", [{}, {"async": False}, {"async": None}, {"async": "false"}, {"callback_url": None}])
def test_a_request_is_answered_when_it_is_done(fields: Mapping[str, object]) -> None:
    """Unless something asks for a task."""
    assert terms(fields) is None


@pytest.mark.parametrize("fields", [{"async": True}, {"async": "true"}])
def test_a_field_asks_for_a_task(fields: Mapping[str, object]) -> None:
    """In JSON as a boolean, in a form as a word."""
    assert terms(fields) == TaskTerms()


def test_the_terms_are_those_of_headers_body_and_project() -> None:
    """Each says what it has to say, and all go together."""
    wishes = accept({"prefer": "handling=lenient, Respond-Async; wait=10", "x-gateway-max-wait": "90s"})

    assert terms({}, wishes) == TaskTerms(max_wait=90, preferred=True)
    assert terms({"callback_url": HOOK}) == TaskTerms(HOOK)
    assert terms({}, project=replace(PROJECT, asynchronous=True)) == TaskTerms(always=True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"async": "yes"}, "async"),
        ({"async": 1}, "async"),
        ({"callback_url": ["https://a"]}, "callback_url"),
        ({"callback_url": ""}, "callback_url"),
        ({"callback_url": "mailto:a@example.com"}, "callback_url"),
        ({"callback_url": "https://"}, "callback_url"),
        ({"callback_url": "https://example.com:0x50/"}, "callback_url"),
        ({"callback_url": "https://example.com/\r\nx: y"}, "callback_url"),
        ({"callback_url": "https://example.com/" + "a" * 2048}, "callback_url"),
    ],
)
def test_what_cannot_be_read_is_named(fields: Mapping[str, object], param: str) -> None:
    """A 400 with the field."""
    with pytest.raises(InvalidRequest) as caught:
        terms(fields)
    assert caught.value.param == param


def test_a_url_that_may_not_be_called_is_refused_with_the_reason() -> None:
    """The guard has the last word, and its words are shown."""
    with pytest.raises(InvalidRequest, match="callback_url cannot be called: it leads inside"):
        task_terms(job(), {"callback_url": HOOK}, Wishes(), PROJECT, lambda _: "it leads inside")


def test_a_stream_is_not_answered_later() -> None:
    """Nobody would read it."""
    with pytest.raises(InvalidRequest) as caught:
        terms({"async": True}, stream=True)
    assert (caught.value.param, caught.value.code) == ("stream", "unsupported_parameter")


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("30m", 1800), ("24h", 86_400), (" 86400s ", 86_400)])
def test_a_time_is_read(text: str, seconds: int) -> None:
    """Seconds, minutes and hours."""
    assert accept({"x-gateway-max-wait": text}).max_wait == seconds


@pytest.mark.parametrize("text", ["", "0s", "25h", "86401s", "1d", "1.5h", "-1s", "90", "h", "1h30m"])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    """A 400 with the header."""
    with pytest.raises(InvalidRequest) as caught:
        accept({"x-gateway-max-wait": text})
    assert caught.value.param == "X-Gateway-Max-Wait"
