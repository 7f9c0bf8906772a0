"""Write: what the headers say of the decision."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.route import Quote, Views
from gateway.steps.write import Decision, write
from tests.builders import GPT_IMAGE_2, TODAY, job, route


def headers(degraded: Mapping[str, str]) -> dict[str, str]:
    """The headers of a quote that policy changed so."""
    price = GPT_IMAGE_2.prices[0]
    quote = Quote(route("main"), job(), {}, Views(1, 1, 1), price, price, degraded=degraded)
    return dict(write(Decision("req_1", "draft", quote, 1), TODAY))


def test_what_was_changed_to_save_money_stands_in_a_header() -> None:
    """One change or several, in the order in which they were made; no header where nothing was changed."""
    assert headers({"quality": "medium"})["X-Gateway-Degraded"] == "quality=medium"
    several = headers({"quality": "low", "size": "1024x1024", "n": "1"})
    assert several["X-Gateway-Degraded"] == "quality=low, size=1024x1024, n=1"
    assert "X-Gateway-Degraded" not in headers({})
