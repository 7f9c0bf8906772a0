"""What a conversation costs: what it may at most, what its answer says, and what of that is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from gateway.domain.job import Operation
from gateway.domain.money import nano_from_pico
from gateway.domain.responses import TextPrice, TextRates, TextTerms, TextUsage
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ports.responses import Remembered
from gateway.providers.response_reading import read_response
from gateway.responses.following import followed, quote_of
from gateway.responses.settle import settle
from tests.builders import GPT_IMAGE_2, job, policy, route

PLAIN, LONG = TextRates(50, 5, 60, 300), TextRates(100, 10, 120, 450)
PRICE = TextPrice(date(2026, 1, 1), "test", PLAIN, 272_000, LONG)
TERMS = TextTerms("writer", PRICE, 20_000, 2_000)
LOW = {"type": "image_generation_call", "status": "completed", "result": "AA", "size": "1024x1024", "quality": "low"}


def quote(terms: TextTerms = TERMS, images: int = 3) -> Quote:
    """The quote of a conversation that may make three images in low quality."""
    wanted = job(operation=Operation.RESPOND, n=images, quality="low", size="auto")
    price = GPT_IMAGE_2.prices[0]
    return Quote(route("main"), wanted, {}, Views(10**9, 10**9, 10**9), price, price, text=terms)


def answer(*made: dict[str, Any], image_out: int = 0, searches: int = 0, **details: int) -> dict[str, Any]:
    """A response as the vendor's API gives it."""
    tool = {"input_tokens": 10, "input_tokens_details": {"text_tokens": 10, "image_tokens": 0}}
    read = details.pop("read", 1_000)
    return {
        "id": "resp_1",
        "status": "completed",
        "output": list(made),
        "usage": {
            "input_tokens": read,
            "input_tokens_details": details,
            "output_tokens": 30,
            "total_tokens": read + 30,
        },
        "tool_usage": {
            "image_gen": {**tool, "output_tokens": image_out, "total_tokens": image_out + 10},
            "web_search": {"num_requests": searches},
        },
    }


def settled(document: dict[str, Any], by: Quote | None = None) -> Settlement:
    """The settlement of such an answer."""
    reading = replace(read_response(document), complete=True)
    return settle("r", 1, by or quote(), reading, Fraction(1))


def test_tokens_written_to_the_cache_have_their_own_price() -> None:
    """Beside those that were read from it, and those that were neither."""
    made = settled(answer(cached_tokens=300, cache_write_tokens=500))
    assert made.cost.route == nano_from_pico(200 * 50 + 300 * 5 + 500 * 60 + 30 * 300)
    assert made.facts["text_tokens"] == {"in": 1_000, "cached": 300, "written": 500, "out": 30}
    assert made.source is CostSource.USAGE


def test_more_cached_and_written_than_was_read_is_not_believed() -> None:
    """The text is booked at its most then."""
    made = settled(answer(cached_tokens=600, cache_write_tokens=500))
    assert (made.cost.route, made.facts["estimated"]) == (TERMS.worst, "text")


@pytest.mark.parametrize(("read", "rates"), [(272_000, PLAIN), (272_001, LONG)])
def test_a_long_context_has_prices_of_its_own(read: int, rates: TextRates) -> None:
    """For all tokens of a response that read more than the row says."""
    terms = replace(TERMS, most_in=400_000)
    made = settled(answer(read=read, cached_tokens=1_000), quote(terms))
    assert made.cost.route == nano_from_pico(
        (read - 1_000) * rates.text_in + 1_000 * rates.text_in_cached + 30 * rates.text_out
    )


@pytest.mark.parametrize("most_in", [272_000, 272_001, 900_000])
def test_the_most_is_the_dearest_of_all_kinds(most_in: int) -> None:
    """Whatever is cached, written or long within the bounds costs no more, even where a long context is cheaper."""
    for price in (PRICE, replace(PRICE, rates=LONG, long=PLAIN), replace(PRICE, rates=TextRates(50, 5, 10, 300))):
        terms = TextTerms("writer", price, most_in, 2_000)
        for read in (most_in, 272_000):
            for cached, written in ((0, 0), (read, 0), (0, read), (read // 2, read // 2)):
                assert terms.cost(TextUsage(read, cached, 2_000, written)) <= terms.worst


def test_usage_of_one_of_two_images_is_not_believed() -> None:
    """The vendor says that it may skip calls: what the images take by its formula is the least they cost."""
    short = settled(answer(LOW, LOW, image_out=196))
    assert (short.source, short.facts["estimated"]) == (CostSource.ESTIMATE, "images")
    whole = settled(answer(LOW, LOW, image_out=392))
    assert whole.source is CostSource.USAGE
    assert short.cost.route >= whole.cost.route
    one = settled(answer(LOW, image_out=190))
    assert one.source is CostSource.USAGE
    untold = settled(answer({**LOW, "size": "auto"}, {**LOW, "quality": "ultra"}, image_out=196))
    assert untold.source is CostSource.USAGE


def test_searches_that_were_billed_are_marked() -> None:
    """No price here tells what they cost; the record says how many there were."""
    assert settled(answer(searches=5)).facts["web_searches"] == 5
    assert "web_searches" not in settled(answer()).facts


@pytest.mark.parametrize("price", [PRICE, TextPrice(date.min, "", PLAIN)])
def test_what_is_followed_is_settled_by_the_same_prices(price: TextPrice) -> None:
    """What lies in the store of work in the background gives the same text terms back."""
    terms = replace(TERMS, price=price)
    response = followed(Remembered("resp_1", "team", "acme", "draft", "r"), 1, quote(terms), Fraction(1))
    found = quote_of(response.terms or {}, policy(route("main")))
    assert found is not None
    assert found.text is not None
    assert (found.text.price.rates, found.text.price.above, found.text.price.long) == (
        price.rates,
        price.above,
        price.long,
    )
    assert found.text.worst == terms.worst


def test_what_an_older_version_follows_is_settled_too() -> None:
    """It knew one price of what is read, one of what is cached, and one of output."""
    response = followed(Remembered("resp_1", "team", "acme", "draft", "r"), 1, quote(), Fraction(1))
    terms = {name: told for name, told in (response.terms or {}).items() if name != "rates"}
    found = quote_of({**terms, "text": ["writer", 20_000, 2_000, 50, 5, 300]}, policy(route("main")))
    assert found is not None
    assert found.text is not None
    assert found.text.price.rates == TextRates(50, 5, 50, 300)
