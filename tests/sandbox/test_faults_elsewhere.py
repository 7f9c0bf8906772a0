"""Faults on endpoints that are not those of images of OpenAI: each does what is documented, or passes by unspent."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.stack import Reply, fetch

TALK = {
    "model": "gpt-5.2",
    "input": "a [1 images]",
    "tools": [{"type": "image_generation", "quality": "low", "size": "1024x1024"}],
}
IMAGE = {"model": "m", "prompt": "x"}
CALLS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "responses": ("/openai/v1/responses", TALK),
    "background": ("/openai/v1/responses", {**TALK, "background": True}),
    "stream": ("/openai/v1/responses", {**TALK, "stream": True}),
    "openrouter": ("/likes/openrouter/v1/images", IMAGE),
    **{name: (f"/likes/{name}/v1/images/generations", IMAGE) for name in ("xai", "together", "deepinfra")},
}


def ask(sandbox: Sandbox, where: str) -> Reply:
    """Ask for an image."""
    path, body = CALLS[where]
    return fetch(sandbox.url + path, body=body, headers={"authorization": f"Bearer {sandbox.api_key}"}, timeout=10)


def billed(sandbox: Sandbox) -> int:
    """Nano-USD on the bill."""
    return int(sandbox.bill()["total_nano_usd"])


@pytest.mark.parametrize("where", CALLS)
def test_a_refusal_is_a_refusal(sandbox: Sandbox, where: str) -> None:
    """By a limit or by its content, and nothing is charged; nor is a page in the place of an answer."""
    sandbox.fault("rate_limit")
    assert ask(sandbox, where).status == 429
    sandbox.fault("moderation")
    assert 400 <= ask(sandbox, where).status < 500
    sandbox.fault("html")
    page = ask(sandbox, where)
    assert (page.status, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert billed(sandbox) == 0


@pytest.mark.parametrize("fault", ["moderation", "html", "garbage"])
@pytest.mark.parametrize("where", CALLS)
def test_what_is_charged_all_the_same_is_on_the_bill(sandbox: Sandbox, where: str, fault: str) -> None:
    """As much as if it had been answered."""
    once = 0
    if where != "background":
        assert ask(sandbox, where).status == 200
        once = billed(sandbox)
    sandbox.fault(fault, billed=True)
    answer = ask(sandbox, where)
    assert len(answer.body) < 500, "no image"
    assert billed(sandbox) > 0 if where == "background" else billed(sandbox) == 2 * once


@pytest.mark.parametrize("fault", ["zero_usage", "garbage_usage", "pad"])
@pytest.mark.parametrize("where", CALLS)
def test_a_fault_that_cannot_be_shown_waits_for_who_can(sandbox: Sandbox, where: str, fault: str) -> None:
    """It is not counted as having struck."""
    sandbox.fault(fault)
    assert ask(sandbox, where).status == 200
    assert [each["hits"] for each in sandbox.faults()] == [0]


@pytest.mark.parametrize("path", ["/evolink/v1/images/generations", "/likes/openrouter/v1/images"])
def test_what_was_sent_is_matched_elsewhere_too(sandbox: Sandbox, path: str) -> None:
    """By the provider's own names of fields."""
    sandbox.fault("status", match={"quality": "low", "size": "1024x1024", "prompt": "x"})
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    for quality, status in (("high", 200), ("low", 500)):
        body = {"model": "gpt-image-2", "prompt": "x", "quality": quality, "size": "1024x1024"}
        assert fetch(sandbox.url + path, body=body, headers=headers, timeout=10).status == status


def test_a_connection_that_breaks_when_work_in_the_background_begins(sandbox: Sandbox) -> None:
    """The work was taken on, and nobody heard of it."""
    sandbox.fault("lost_response")
    with pytest.raises(OSError, match=r"closed connection|reset"):
        ask(sandbox, "background")
