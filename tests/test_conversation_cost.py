"""What a conversation costs: what it may at most, what its answer says, and what of that is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from gateway.domain.costing import ABSURD
from gateway.domain.job import Operation
from gateway.domain.money import nano_from_pico
from gateway.domain.price import Bills, PixelTier, Price
from gateway.domain.responses import TextPrice, TextRates, TextTerms, TextUsage
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ports.responses import Remembered
from gateway.providers.response_reading import ResponseEvents, read_response
from gateway.responses.settle import settle
from gateway.responses.terms import followed, quote_of
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_25, job, policy, route

PLAIN, LONG = TextRates(50, 5, 60, 300), TextRates(100, 10, 120, 450)
PRICE = TextPrice(date(2026, 1, 1), "test", PLAIN, 272_000, LONG)
TERMS = TextTerms("writer", PRICE, 20_000, 2_000)
LOW = {"type": "image_generation_call", "status": "completed", "result": "AA", "size": "1024x1024", "quality": "low"}


def quote(terms: TextTerms = TERMS, images: int = 3, price: Price = GPT_IMAGE_2.prices[0]) -> Quote:
    """The quote of a conversation that may make three images in low quality."""
    wanted = job(operation=Operation.RESPOND, n=images, quality="low", size="auto")
    return Quote(route("main"), wanted, {}, Views(10**9, 10**9, 10**9), price, price, text=terms)


def answer(*made: dict[str, Any], image_out: int = 0, searches: int = 0, **details: int) -> dict[str, Any]:
    """A response as the vendor's API gives it."""
    asked = 10 if made else 0
    tool = {"input_tokens": asked, "input_tokens_details": {"text_tokens": asked, "image_tokens": 0}}
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
            "image_gen": {**tool, "output_tokens": image_out, "total_tokens": image_out + asked},
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
    unsaved = settled(answer({**LOW, "size": "auto"}, {**LOW, "quality": "ultra"}, image_out=196))
    assert unsaved.source is CostSource.USAGE


@pytest.mark.parametrize(
    ("part", "most"), [("text", ABSURD * TERMS.worst // 0.3), ("images", ABSURD * 10**9 // 30_000)]
)
def test_usage_beyond_reason_is_not_believed(part: str, most: float) -> None:
    """More than ten times what it may cost at most is a provider's mistake: that part is booked at its most."""
    plain, by = answer(), quote(images=1)

    def counting(tokens: int) -> Settlement:
        text = {"usage": {**plain["usage"], "output_tokens": tokens, "total_tokens": 1_000 + tokens}}
        images = {"tool_usage": {"image_gen": {"input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens}}}
        return settled({**plain, **(text if part == "text" else images)}, by)

    assert counting(int(most) - 1_000).source is CostSource.USAGE
    beyond = counting(int(most) + 1_000)
    assert (beyond.source, beyond.facts["estimated"]) == (CostSource.ESTIMATE, part)
    if part == "text":
        assert beyond.cost.route == TERMS.worst
    else:  # though it lists no call, one was made
        assert beyond.cost.route > settled(plain, by).cost.route + 196 * 30_000


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete", "cancelled"])
def test_image_tokens_count_also_where_no_call_is_listed(status: str) -> None:
    """The output of a response that failed lists nothing of what was made and billed; its usage has it."""
    used = {"image_gen": {"input_tokens": 10, "output_tokens": 4_000, "total_tokens": 4_010}}
    told = settled({**answer(), "status": status, "tool_usage": used})
    text = 1_000 * 50 + 30 * 300
    assert told.cost.route == nano_from_pico(text) + 10 * 8_000 + 4_000 * 30_000
    assert (told.source, told.usage and told.usage.image_out) == (CostSource.USAGE, 4_000)


@pytest.mark.parametrize("status", ["failed", "incomplete", "cancelled"])
def test_what_did_not_complete_and_says_nothing_is_booked_at_its_most(status: str) -> None:
    """Every image that it may have made; where it says what the text took, and no call, none was made."""
    silent = {**answer(), "status": status, "usage": None, "tool_usage": None}
    told = settled(silent)
    assert (told.source, told.facts["estimated"]) == (CostSource.ESTIMATE, "text, images")
    assert told.cost.route > TERMS.worst + 3 * 196 * 30_000
    assert settled(silent, quote(images=0)).cost.route == TERMS.worst
    assert settled({**answer(), "status": status, "tool_usage": None}).source is CostSource.USAGE


def test_a_completed_response_read_something() -> None:
    """Usage of no tokens at all is not believed: the text is booked at its most. One that was cancelled may be true."""
    made = settled(answer(read=0))
    assert (made.cost.route, made.facts["estimated"], made.facts["text_problem"]) == (TERMS.worst, "text", "zero_input")
    early = settled({**answer(read=0), "status": "cancelled"})
    assert (early.cost.route, early.source) == (nano_from_pico(30 * 300), CostSource.USAGE)


def test_images_sold_by_the_piece_are_priced_by_what_each_says_of_itself() -> None:
    """Sizes and qualities of one response differ; a call without an image costs where all that is asked for does."""
    tiers = tuple(PixelTier(name, nano, None, quality=name) for name, nano in (("low", 10), ("high", 200)))
    price = Price(date(2026, 1, 1), "test", per_image=tiers)
    failed = {**LOW, "status": "failed", "result": None}
    text = settled(answer()).cost.route
    made = settled({**answer(LOW, {**LOW, "quality": "high"}, failed), "tool_usage": None}, quote(price=price))
    assert (made.cost.route - text, made.source) == (210, CostSource.USAGE)
    every = settled({**answer(LOW, failed), "tool_usage": None}, quote(price=replace(price, bills=Bills.REQUESTED)))
    assert every.cost.route - text == 20


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete"])
def test_a_stream_is_whole_once_it_has_said_its_end(status: str) -> None:
    """However its connection ends; one that says no end is not."""
    reader = ResponseEvents()
    reader.feed(b"data: " + json.dumps({"type": "response.created", "response": {"id": "r"}}).encode() + b"\n\n")
    reader.end(framed=False)
    assert not reader.reading().complete
    reader = ResponseEvents()
    event = {"type": f"response.{status}", "response": {**answer(LOW, image_out=196), "status": status}}
    reader.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert reader.reading().complete
    reader.end(framed=False)
    made = settle("r", 1, quote(), reader.reading(), Fraction(1))
    assert (made.source, made.images) == (CostSource.USAGE, 1)


@pytest.mark.parametrize("document", [{}, {"error": {"message": "x", "code": "oops"}}])
def test_what_names_neither_id_nor_status_is_no_response(document: dict[str, Any]) -> None:
    """So that it is answered as an image request would be that got such an answer."""
    assert read_response(document).said is None


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


@pytest.mark.parametrize("name", ["renamed", "main"])
def test_what_is_followed_is_settled_by_any_route_of_its_model(name: str) -> None:
    """Its prices are with it: a route that was renamed meanwhile, or makes another model now, is not missed."""
    response = followed(Remembered("resp_1", "team", "acme", "draft", "r"), 1, quote(), Fraction(1))
    others = [] if name == "renamed" else [route("main", GPT_IMAGE_25)]
    found = quote_of(response.terms or {}, policy(*others, route("renamed")))
    assert found is not None
    assert (found.route.name, found.route_price.tokens) == ("renamed", quote().route_price.tokens)
    assert quote_of(response.terms or {}, policy(route("main", GPT_IMAGE_25))) is None


def test_what_an_older_version_follows_is_settled_too() -> None:
    """It knew one price of what is read, one of what is cached, and one of output."""
    response = followed(Remembered("resp_1", "team", "acme", "draft", "r"), 1, quote(), Fraction(1))
    terms = {name: told for name, told in (response.terms or {}).items() if name != "rates"}
    found = quote_of({**terms, "text": ["writer", 20_000, 2_000, 50, 5, 300]}, policy(route("main")))
    assert found is not None
    assert found.text is not None
    assert found.text.price.rates == TextRates(50, 5, 50, 300)
