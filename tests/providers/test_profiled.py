"""Endpoints that speak nearly the same: what is sent where, and what becomes of their answers."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from gateway.domain.job import Operation
from gateway.domain.price import Charged, PixelTier, Price
from gateway.domain.profile import Amount, Auth, Parameter, Profile, Source
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Outcome, Reading
from gateway.ports import InputImage, Inputs
from gateway.ports.provider import Call, ProviderServices, UpstreamFailure
from gateway.providers.registry import open_provider
from gateway.providers.unsupported import UNSUPPORTED
from gateway.steps.settle import settle
from tests.builders import GPT_IMAGE_2
from tests.providers.calls import SECRET, MemoryBody, call, config, read_all
from tests.providers.pages import Pages
from tests.providers.raw_server import Connection, RawServer, Request, Script, serving
from tests.providers.task_vendor import png

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
ENCODED = base64.b64encode(PNG).decode()
USAGE = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
JSON = "Content-Type: application/json\r\n"
NORMAL = Profile(normalise=True)


def answering(*bodies: bytes, headers: str = JSON, status: str = "200 OK") -> Script:
    """A server that answers its requests in turn, images by GET among them."""
    left = list(bodies)

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            if request.line.startswith("GET /gone"):
                await connection.answer(b"no", status="404 Not Found")
            elif request.line.startswith("GET "):
                await connection.answer(PNG, headers="Content-Type: image/png\r\n")
            else:
                await connection.answer(left.pop(0), status=status, headers=headers)

    return script


async def answer_to(
    body: object, profile: Profile, job: Call | None = None, services: ProviderServices | None = None, **more: Any
) -> tuple[Any, Reading, RawServer]:
    """Send one call; what came of it as JSON, what was read of it, and the server."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with serving(answering(text, **more)) as server:
        provider = open_provider(config(server.url, profile=profile), services)
        try:
            answer = await provider.send(job or call())
            try:
                whole = await read_all(answer)
                assert answer.content_length in (None, len(whole))
                return json.loads(whole), answer.reading(), server
            finally:
                await answer.aclose()
        finally:
            await provider.aclose()


async def sent(profile: Profile, job: Call, **changes: Any) -> Request:
    """What arrives for a call."""
    async with serving(answering(b'{"data": [{"b64_json": "eA=="}]}')) as server:
        provider = open_provider(config(server.url, profile=profile, **changes))
        try:
            answer = await provider.send(job)
            await read_all(answer)
            await answer.aclose()
        finally:
            await provider.aclose()
        return server.requests[0]


async def refusal(profile: Profile, job: Call) -> str:
    """Why nothing is sent."""
    async with serving(answering()) as server:
        provider = open_provider(config(server.url, profile=profile))
        with pytest.raises(UpstreamFailure) as caught:
            await provider.send(job)
        await provider.aclose()
        assert not server.requests
    assert (caught.value.outcome, caught.value.reason) == (Outcome.NOT_SENT, UNSUPPORTED)
    return caught.value.message


def asked(fields: Mapping[str, object], **body: Any) -> Call:
    """A call to generate, of which policy changes nothing."""
    return replace(call(MemoryBody(fields, **body)), changes={})


async def test_paths_headers_and_query_are_the_profiles() -> None:
    """Names in braces are filled in, encoded; the key goes into the header that the profile names, and no other."""
    profile = Profile(
        auth=Auth("api-key", ""), generations="/{deployment}/images?a={model}", query={"api-version": "{tenant}"}
    )
    job = replace(call(), route=replace(call().route, upstream_model="x/y z"))
    request = await sent(profile, job, variables={"tenant": "t&t"})
    assert request.line == "POST /v1/x/y%20z/images?a=%7Bmodel%7D&api-version=t%26t HTTP/1.1"
    assert (request.header("api-key"), request.header("authorization")) == (SECRET, None)
    named = await sent(profile, job, variables={"tenant": "t", "deployment": "mine"})
    assert named.line.startswith("POST /v1/mine/images?")


async def test_the_clients_own_body_without_what_is_dropped_and_renamed() -> None:
    """Without parameters all else goes on as it is; a deployment's body names no model."""
    profile = Profile(send_model=False, drop=("style",), rename={"seed": "random_seed", "quality": "grade"})
    job = asked({"prompt": "a cat", "model": "m", "style": "vivid", "seed": 7, "deep": {"a": [1]}, "quality": "low"})
    request = await sent(profile, replace(job, changes={"model": "up", "quality": "high"}))
    assert json.loads(request.body) == {"prompt": "a cat", "deep": {"a": [1]}, "random_seed": 7, "grade": "high"}


async def test_a_field_that_the_gateway_prices_has_no_second_name() -> None:
    """A client that leaves out what is renamed cannot say it by the provider's own name instead, unpriced."""
    profile = Profile(rename={"n": "count", "size": "dims"})
    fields = {"prompt": "a cat", "count": 10, "dims": "3840x2160", "model": "m"}
    request = await sent(profile, replace(asked(fields), changes={"size": "1024x1024"}))
    assert json.loads(request.body) == {"prompt": "a cat", "dims": "1024x1024", "model": "upstream-name"}
    as_form = Profile(rename={"n": "count"}, forms=frozenset({Operation.GENERATE}))
    request = await sent(as_form, asked(fields))
    assert b'name="count"' not in request.body


async def test_a_json_edit_becomes_a_form_where_only_forms_are_read() -> None:
    """The client's own fields and images, under the provider's names."""

    async def content() -> AsyncIterator[bytes]:
        yield PNG

    given = Inputs((InputImage(content=content, length=len(PNG), media_type="image/png"),))
    fields = {"prompt": "a cat", "images": [{"image_url": "data:…"}], "n": 1}
    job = asked(fields, given=given)
    job = replace(job, job=replace(job.job, operation=Operation.EDIT))
    request = await sent(Profile(forms=frozenset({Operation.EDIT}), rename={"image": "picture"}), job)
    kind = request.header("content-type") or ""
    assert kind.startswith("multipart/form-data; boundary=")
    assert b'name="picture"; filename="image-0.png"' in request.body
    assert PNG in request.body
    assert b'name="images"' not in request.body
    untouched = await sent(Profile(auth=Auth("k", "")), job)
    assert json.loads(untouched.body)["images"] == fields["images"]


async def test_what_a_provider_would_misread_is_not_sent() -> None:
    """Fields and prompts that it would take for something else, and jobs that it has no endpoint for."""
    strict = Profile(refuse={"style": "it has none"})
    assert "style: it has none" in await refusal(strict, asked({"style": "x"}))
    left_out = replace(asked({"prompt": "a cat", "style": "x"}), changes={"style": None})
    assert "style" not in json.loads((await sent(strict, left_out)).body)
    for ours in (replace(strict, drop=("style",)), replace(strict, rename={"look": "style"})):
        assert "style" not in json.loads((await sent(ours, asked({"prompt": "a cat", "style": "x"}))).body)
    renamed = replace(strict, rename={"style": "look"})
    assert "style: it has none" in await refusal(renamed, asked({"style": "x"}))
    named = replace(asked({"quality": "high"}), changes={"quality": "high"})
    policys = Profile(refuse={"quality": "it has none"}, rename={"look": "quality"})
    assert "quality: it has none" in await refusal(policys, named)
    bars = Profile(prompt_refuses={"|": "it splits there"})
    assert "it splits there" in await refusal(bars, asked({"prompt": "a | b"}))
    edit = replace(call(), job=replace(call().job, operation=Operation.EDIT))
    assert "no endpoint for edit" in await refusal(Profile(lacks=frozenset({"edit"})), edit)


async def test_images_become_plain_base64_whatever_they_came_as() -> None:
    """Prefixes, escapes, data URIs, links of the provider's own: all are `b64_json`; foreign fields are left out."""
    escaped = json.dumps(f"data:image/png;base64,{ENCODED}").replace("/", "\\/")
    body = {
        "id": "x",
        "object": "list",
        "data": [
            {"index": 0, "type": "b64_json", "b64_json": ENCODED, "url": None, "revised_prompt": "a tabby"},
            {"b64_json": f"data:image/png;base64,{ENCODED}", "media_type": "image/png"},
            {"url": f"data:image/png;base64,{ENCODED}"},
            {"b64_json": "ESCAPED"},
            {"url": "/pictures/1"},
            {"url": None, "b64_json": ""},
        ],
        "usage": USAGE,
    }
    text = json.dumps(body).replace('"ESCAPED"', escaped).encode()
    job = replace(call(), job=replace(call().job, n=7))
    document, reading, server = await answer_to(text, NORMAL, job)
    assert [base64.b64decode(item["b64_json"], validate=True) for item in document["data"]] == [PNG] * 5
    assert document["data"][0] == {"revised_prompt": "a tabby", "b64_json": ENCODED}
    assert set(document) == {"created", "output_format", "data", "usage"}
    assert (document["output_format"], document["usage"]) == ("png", USAGE)
    assert (reading.images, reading.complete, reading.output_format) == (5, True, "png")
    assert reading.usage is not None
    fetched = server.requests[1]
    assert (fetched.line, fetched.header("authorization")) == ("GET /pictures/1 HTTP/1.1", f"Bearer {SECRET}")


LINKS = {"data": [{"url": "https://cdn.example.com/1.png"}, {"url": "https://cdn.example.com/dead.png"}]}
PICTURES = {"https://cdn.example.com/1.png": PNG}


async def test_links_elsewhere_are_fetched_without_credentials() -> None:
    """A link that may die is told as base64; one that is dead stays, absolute, so that nothing is lost."""
    fetcher = Pages(PICTURES)
    document, reading, server = await answer_to(LINKS, NORMAL, services=ProviderServices(fetcher))
    assert document["data"] == [{"b64_json": ENCODED}, {"url": "https://cdn.example.com/dead.png"}]
    assert [headers for _, headers in fetcher.asked] == [None, None]
    assert (reading.images, len(server.requests)) == (2, 1)


async def test_a_client_that_asked_for_links_gets_none_that_will_die() -> None:
    """Links are fetched all the same, for the gateway makes its own; what cannot be fetched stays one, absolute."""
    fetcher = Pages(PICTURES)
    body = {"data": [*LINKS["data"], {"url": "/pictures/1"}, {"url": "/gone"}]}
    job = asked({"prompt": "a cat", "response_format": "url"})
    document, _, server = await answer_to(body, NORMAL, job, ProviderServices(fetcher))
    assert [item for item in document["data"] if "b64_json" in item] == [{"b64_json": ENCODED}] * 2
    assert document["data"][3]["url"] == f"{server.url}/gone"


@pytest.mark.parametrize(
    ("body", "amount", "reported", "units"),
    [
        ('{"usage": {"cost": 0.0412345678901}}', Amount("usage.cost", usd=Fraction(1)), 41_234_568, None),
        ('{"usage": {"ticks": 700000005}}', Amount("usage.ticks", usd=Fraction(1, 10**10)), 70_000_001, None),
        ('{"credits": "35"}', Amount("credits", usd=Fraction(1, 1000)), 35_000_000, None),
        ('{"credits": 1}', Amount("credits", usd=Fraction(1, 68)), 14_705_883, None),
        ('{"units": 2.5}', Amount("units"), None, Fraction(5, 2)),
        ("{}", Amount(header="X-Billable-Units"), None, Fraction(3, 2)),
        ('{"usage": {"cost": -1}}', Amount("usage.cost", usd=Fraction(1)), None, None),
        ('{"usage": {"cost": 0}}', Amount("usage.cost", usd=Fraction(1)), 0, None),
        ('{"usage": {"cost": true}}', Amount("usage.cost", usd=Fraction(1)), None, None),
        ('{"usage": null}', Amount("usage.cost", usd=Fraction(1)), None, None),
    ],
)
async def test_what_a_call_cost_is_read_exactly(
    body: str, amount: Amount, reported: int | None, units: Fraction | None
) -> None:
    """By path or header, as decimals, whole numbers or texts, rounded up once; what is no bill is left out."""
    text = body.removesuffix("}") + (", " if body != "{}" else "") + '"data": [{"b64_json": "eA=="}]}'
    headers = JSON + "x-billable-units: 1.5\r\n"
    _, reading, _ = await answer_to(text.encode(), Profile(reported=amount), headers=headers)
    assert (reading.reported, reading.units) == (reported, units)


async def test_usage_that_is_no_bill_is_neither_believed_nor_passed_on() -> None:
    """Zeros and tokens of another kind must not settle at nothing."""
    body = {"data": [{"b64_json": ENCODED}], "usage": USAGE}
    document, reading, _ = await answer_to(body, Profile(blind_usage=True))
    assert "usage" not in document
    assert (reading.usage, reading.usage_problem, reading.images) == (None, "blind", 1)


async def test_a_refusal_in_a_200_is_a_moderation_error() -> None:
    """With what the provider charged for it; images that passed are still delivered beside a withheld one."""
    withheld = {"respect_moderation": False, "url": "https://cdn.example.com/1.png"}
    profile = Profile(normalise=True, reported=Amount("usage.ticks", usd=Fraction(1, 10**10)))
    with pytest.raises(UpstreamFailure) as caught:
        await answer_to({"data": [withheld], "usage": {"ticks": 10**9}}, profile)
    failure = caught.value
    assert (failure.outcome, failure.status, failure.pass_on) == (Outcome.REJECTED, 400, True)
    assert json.loads(failure.body)["error"]["code"] == "moderation_blocked"
    assert (failure.charged_for, failure.reading and failure.reading.reported) == ("moderated", 10**8)
    passed = {"respect_moderation": True, "b64_json": ENCODED}
    document, reading, _ = await answer_to({"data": [withheld, passed]}, profile)
    assert (document["data"], reading.images) == ([{"b64_json": ENCODED}], 1)


TICKS = Amount("usage.ticks", usd=Fraction(1, 10**10))
CENTS = 10_000_000
"""Nano-USD."""


@pytest.mark.parametrize(
    ("amount", "usage", "words", "calls", "booked"),
    [
        (TICKS, {}, [Charged.SUCCEEDED, Charged.MODERATED], 1, (20, CostSource.PRESUMED)),
        (TICKS, {}, [Charged.SUCCEEDED, Charged.MODERATED], 2, (20, CostSource.PRESUMED)),
        (TICKS, {}, [Charged.SUCCEEDED], 1, (5, CostSource.USAGE)),
        (TICKS, {}, [Charged.SUCCEEDED], 2, (5, CostSource.USAGE)),
        (TICKS, {"ticks": 15 * 10**8}, [Charged.SUCCEEDED, Charged.MODERATED], 1, (15, CostSource.REPORTED)),
        (None, {}, [Charged.SUCCEEDED, Charged.MODERATED], 1, (10, CostSource.ESTIMATE)),
        (None, {}, [Charged.SUCCEEDED, Charged.MODERATED], 2, (15, CostSource.ESTIMATE)),
    ],
)
async def test_images_withheld_beside_others_cost_what_a_refusal_does(
    amount: Amount | None, usage: object, words: list[Charged], calls: int, booked: tuple[int, CostSource]
) -> None:
    """One of four came, at 5 cents. Where the provider tells what it bills and did not, the others are presumed."""
    withheld, passed = {"respect_moderation": False, "url": ""}, {"respect_moderation": True, "b64_json": ENCODED}
    bodies = [{"data": [passed, *[withheld] * (4 // calls - 1)], "usage": usage}, {"data": [withheld, withheld]}]
    price = Price(
        date(2026, 1, 1), "here", per_image=(PixelTier("any", 5 * CENTS, None),), charged_for=frozenset(words)
    )
    async with serving(answering(*(json.dumps(body).encode() for body in bodies))) as server:
        account = config(server.url, profile=Profile(normalise=True, blind_usage=True, reported=amount))
        plain = asked({"prompt": "a cat"})
        route = replace(plain.route, provider=account, capabilities=replace(GPT_IMAGE_2.capabilities, n=4 // calls))
        job = replace(plain.job, n=4, size="1024x1024")
        provider = open_provider(account)
        answer = await provider.send(replace(plain, route=route, job=job, calls=calls))
        assert len(json.loads(await read_all(answer))["data"]) == 1
        reading = answer.reading()
        await answer.aclose()
        await provider.aclose()
    worst = Views(20 * CENTS, 20 * CENTS, 20 * CENTS)
    settled = settle("req_1", 1, Quote(route, job, {}, worst, price, price, calls=calls), reading, Fraction(1))
    assert (settled.images, settled.cost.route // CENTS, settled.source) == (1, *booked)
    assert reading.complete


@pytest.mark.parametrize(
    ("reported", "word"), [(None, "moderated"), (Amount("usage.ticks", usd=Fraction(1, 10**10)), None)]
)
async def test_a_refusal_by_a_status_is_no_bill_of_one_who_tells_his_bills(reported: Amount | None, word: str) -> None:
    """Others' price rows may charge for it."""
    with pytest.raises(UpstreamFailure) as caught:
        await answer_to(
            {"error": "content policy violation"}, Profile(normalise=True, reported=reported), status="400 Bad Request"
        )
    assert (caught.value.outcome, caught.value.charged_for) == (Outcome.REJECTED, word)


async def test_the_size_is_that_of_what_came() -> None:
    """Where the answer does not say, the first image does: sizes are priced."""
    _, reading, _ = await answer_to({"data": [{"b64_json": base64.b64encode(png(640, 480)).decode()}]}, NORMAL)
    assert (reading.size, reading.output_format) == ("640x480", "png")
    _, reading, _ = await answer_to({"data": [{"b64_json": ENCODED}], "size": "1024x1024"}, NORMAL)
    assert reading.size == "1024x1024"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"<html>", b'{"data": [{"b64_json": "eA'])
async def test_an_answer_that_is_none_may_have_been_billed(body: bytes) -> None:
    """Nobody knows what was done for it."""
    with pytest.raises(UpstreamFailure) as caught:
        await answer_to(body, NORMAL)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_parameters_replace_the_clients_body() -> None:
    """Nothing goes along that no parameter names."""
    profile = Profile(parameters=(Parameter("text", Source.PROMPT), Parameter("count", Source.N)))
    request = await sent(profile, asked({"prompt": "a cat", "unheard_of": 1}))
    assert json.loads(request.body) == {"text": "a cat", "count": 1}


async def test_errors_are_in_shape_and_hold_no_secret() -> None:
    """A provider that repeats the key in an error of its own shape is not passed on with it."""
    with pytest.raises(UpstreamFailure) as caught:
        await answer_to({"detail": f"bad key {SECRET}"}, NORMAL, status="400 Bad Request")
    error = json.loads(caught.value.body)["error"]
    assert error == {"message": "bad key ***", "type": "invalid_request_error", "param": None, "code": None}
