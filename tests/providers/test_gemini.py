"""Providers of kind `gemini`: what is sent, and what is made of what comes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.job import Operation
from gateway.domain.profile import Auth, Profile
from gateway.domain.route import SizeRule
from gateway.domain.settlement import Outcome, Usage
from gateway.domain.tiers import Tiers
from gateway.ports import InputImage, Inputs
from gateway.ports.provider import Answer, Call, ProviderServices, UpstreamFailure
from gateway.providers.gemini_body import MAX_REQUEST
from gateway.providers.gemini_usage import told
from gateway.providers.long_strings import LongStrings
from gateway.providers.registry import open_provider
from gateway.providers.usage import read_usage
from tests import builders
from tests.providers.accounts import answering
from tests.providers.calls import SECRET, MemoryBody, config, read_all
from tests.providers.pages import Pages
from tests.providers.raw_server import RawServer, Script, serving
from tests.providers.test_elide import CUTS, cut

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x04\x00\x00\x00\x04\x00" + bytes(range(256)) * 20
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(200))
USAGE = {
    "promptTokenCount": 12,
    "candidatesTokenCount": 1290,
    "totalTokenCount": 1302,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}],
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
}
TIERS = Tiers(("1:1", "3:2", "16:9"), (("1K", 2**20), ("2K", 2**22)))
ONE = Tiers(("1:1", "3:2"), (("1K", 2**20),))


def b64(data: bytes) -> str:
    """As the provider writes an image."""
    return base64.b64encode(data).decode()


def inline(data: bytes = PNG, **more: object) -> dict[str, object]:
    """A part with an image."""
    return {"inlineData": {"mimeType": "image/png", "data": b64(data)}, **more}


def answer(*parts: Mapping[str, object], finish: str = "STOP", usage: object = USAGE, **more: object) -> bytes:
    """An answer of the provider."""
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}
    return json.dumps({"candidates": [candidate], "usageMetadata": usage, "responseId": "resp-1", **more}).encode()


def image(data: bytes = PNG, media_type: str = "image/png") -> InputImage:
    """An image that came with the request."""

    async def content() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    return InputImage(content=content, length=len(data), media_type=media_type)


def call_of(
    *images: InputImage, tiers: Tiers | None = TIERS, mask: InputImage | None = None, prompt: str = "a cat", **job: Any
) -> Call:
    """A call to a route of that kind."""
    rule = SizeRule(max_pixels=2**22, tiers=tiers) if tiers else builders.FREE_SIZES
    route = builders.route("acme/banana", upstream_model="models-banana")
    can = replace(route.model.capabilities, sizes=rule)
    route = replace(route, model=replace(route.model, capabilities=can), capabilities=can)
    body = MemoryBody({"prompt": prompt, "model": "job:x", "user": "u"}, given=Inputs(images, mask))
    operation = Operation.EDIT if images else Operation.GENERATE
    return Call("req_1", route, builders.job(**{"operation": operation, "size": "1024x1024", **job}), body)


@asynccontextmanager
async def sent(
    script: Script, call: Call | None = None, services: ProviderServices | None = None, **changes: object
) -> AsyncIterator[tuple[Answer, RawServer]]:
    """The answer to a call, and the server that gave it."""
    async with serving(script) as server:
        kind = {"kind": "gemini", "base_url": f"{server.url}/v1beta", **changes}
        provider = open_provider(config(server.url, **kind), services)
        try:
            got = await provider.send(call or call_of())
            try:
                yield got, server
            finally:
                await got.aclose()
        finally:
            await provider.aclose()


async def request_of(call: Call, services: ProviderServices | None = None) -> dict[str, Any]:
    """What is sent for a call."""
    async with sent(answering(answer(inline())), call, services) as (_, server):
        [request] = server.requests
    assert request.header("content-length") == str(len(request.body))
    document = json.loads(request.body)
    assert isinstance(document, dict)
    return document


async def document_of(body: bytes) -> tuple[dict[str, Any], Answer]:
    """What a client gets of an answer."""
    async with sent(answering(body)) as (got, _):
        raw = await read_all(got)
        assert got.content_length == len(raw)
        document = json.loads(raw)
        assert isinstance(document, dict)
        return document, got


async def failure_of(
    script: Script, call: Call | None = None, services: ProviderServices | None = None
) -> UpstreamFailure:
    """How a call fails."""
    with pytest.raises(UpstreamFailure) as caught:
        async with sent(script, call, services):
            pass
    return caught.value


async def test_a_prompt_is_sent_as_the_vendor_takes_it() -> None:
    """The path names the model, the key stands in its header, and nothing of the client's own fields goes along."""
    async with sent(answering(answer(inline()))) as (_, server):
        [request] = server.requests
    assert request.line == "POST /v1beta/models/models-banana:generateContent HTTP/1.1"
    assert (request.header("x-goog-api-key"), request.header("authorization")) == (SECRET, None)
    assert json.loads(request.body) == {
        "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
        "generationConfig": {
            "responseModalities": ["IMAGE"],
            "imageConfig": {"aspectRatio": "1:1", "imageSize": "1K"},
        },
    }


async def test_a_profile_s_own_key_header_goes_before_the_vendor_s() -> None:
    """Resellers take the key elsewhere."""
    profile = Profile(auth=Auth("authorization", "Bearer "))
    async with sent(answering(answer(inline())), profile=profile) as (_, server):
        [request] = server.requests
    assert (request.header("x-goog-api-key"), request.header("authorization")) == (None, f"Bearer {SECRET}")


@pytest.mark.parametrize(
    ("job", "tiers", "expected"),
    [
        ({"size": "1024x1024"}, TIERS, {"aspectRatio": "1:1", "imageSize": "1K"}),
        ({"size": "2508x1672"}, TIERS, {"aspectRatio": "3:2", "imageSize": "2K"}),
        ({"size": "1365x768"}, TIERS, {"aspectRatio": "16:9", "imageSize": "1K"}),
        ({"size": "2048x2048", "any_ratio": True}, TIERS, {"imageSize": "2K"}),
        ({"size": "1254x836"}, ONE, {"aspectRatio": "3:2"}),
        ({"size": "1536x1024"}, None, {"aspectRatio": "3:2"}),
        ({"size": "auto"}, TIERS, None),
    ],
)
async def test_a_size_is_told_as_ratio_and_resolution(
    job: dict[str, Any], tiers: Tiers | None, expected: dict[str, str] | None
) -> None:
    """What was priced is what is asked for; a model of one resolution is told none."""
    request = await request_of(call_of(tiers=tiers, **job))
    assert request["generationConfig"].get("imageConfig") == expected


async def test_input_images_are_sent_inline() -> None:
    """In the client's order, with the type of their bytes, and whole."""
    request = await request_of(call_of(image(), image(JPEG, "image/jpeg"), prompt='say "é\u2028"'))
    first, second, third = request["contents"][0]["parts"]
    assert first == {"text": 'say "é\u2028"'}
    assert second == {"inlineData": {"mimeType": "image/png", "data": b64(PNG)}}
    assert third == {"inlineData": {"mimeType": "image/jpeg", "data": b64(JPEG)}}


async def test_an_image_by_url_is_fetched_and_sent_inline() -> None:
    """The vendor fetches no URLs."""
    web = Pages({"https://example.com/a.png": JPEG})
    request = await request_of(
        call_of(InputImage(url="https://example.com/a.png")), ProviderServices(client_fetcher=web)
    )
    assert request["contents"][0]["parts"][1] == {"inlineData": {"mimeType": "image/jpeg", "data": b64(JPEG)}}
    assert [url for url, _ in web.asked] == ["https://example.com/a.png"]


LARGE = PNG + bytes(MAX_REQUEST * 3 // 8)
UNTELLABLE: dict[str, tuple[Call, ProviderServices, str]] = {
    "file id": (call_of(InputImage(file_id="file-1")), ProviderServices(), "no file ids"),
    "no fetcher": (call_of(InputImage(url="https://example.com/a")), ProviderServices(), "by URL"),
    "not fetched": (
        call_of(InputImage(url="https://example.com/a")),
        ProviderServices(client_fetcher=Pages({})),
        "inside",
    ),
    "not found": (
        call_of(InputImage(url="https://example.com/a")),
        ProviderServices(client_fetcher=Pages({"https://example.com/a": (404, PNG)})),
        "404",
    ),
    "no image": (
        call_of(InputImage(url="https://example.com/a")),
        ProviderServices(client_fetcher=Pages({"https://example.com/a": b"<html>"})),
        "no image",
    ),
    "gif": (call_of(image(b"GIF89a", "image/gif")), ProviderServices(), "image/gif"),
    "mask": (call_of(image(), mask=image()), ProviderServices(), "no mask"),
    "too large": (call_of(image(LARGE), image(LARGE)), ProviderServices(), "at most 20 MB"),
    "ratio": (call_of(size="1024x512"), ProviderServices(), "1:1, 3:2, 16:9"),
    "variation": (call_of(operation=Operation.VARIATION), ProviderServices(), "variation"),
}


@pytest.mark.parametrize("name", UNTELLABLE)
async def test_what_cannot_be_asked_for_is_not_sent(name: str) -> None:
    """The failure says why, nothing left, and it says nothing of the route."""
    call, services, words = UNTELLABLE[name]
    async with serving(answering(b"")) as server:
        provider = open_provider(config(server.url, kind="gemini"), services)
        with pytest.raises(UpstreamFailure) as caught:
            await provider.send(call)
        await provider.aclose()
        assert server.requests == []
    assert (caught.value.outcome, caught.value.reason) == (Outcome.NOT_SENT, "unsupported")
    assert words in caught.value.message


async def test_an_image_comes_as_this_api_tells_it() -> None:
    """Base64 as it came, the format and size of the bytes, tokens by kind; the thought signature stays behind."""
    document, got = await document_of(answer({"text": "Here."}, inline(thoughtSignature="x" * 3000)))
    assert document.pop("created") > 1_700_000_000
    assert document == {
        "data": [{"b64_json": b64(PNG)}],
        "output_format": "png",
        "size": "1024x1024",
        "usage": {
            "input_tokens": 12,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 12},
            "output_tokens": 1290,
            "output_tokens_details": {"image_tokens": 1290, "text_tokens": 0},
            "total_tokens": 1302,
        },
    }
    reading = got.reading()
    assert (reading.usage, reading.images, reading.complete) == (Usage(text_in=12, image_out=1290), 1, True)
    assert (reading.output_format, reading.size) == ("png", None)
    assert got.upstream_request_id == "resp-1"


async def test_what_was_thought_on_the_way_is_no_answer() -> None:
    """Its tokens are text; its pictures are left out."""
    usage = {**USAGE, "thoughtsTokenCount": 200, "totalTokenCount": 1502}
    document, got = await document_of(answer(inline(b"thought", thought=True), inline(JPEG), usage=usage))
    assert document["data"] == [{"b64_json": b64(JPEG)}]
    assert document["output_format"] == "jpeg"
    assert got.reading().usage == Usage(text_in=12, image_out=1290, text_out=200)


@pytest.mark.parametrize("data", [PNG, b"tiny"], ids=["long", "short"])
@pytest.mark.parametrize("after", ["", ")\nMore? \\u00e9", " and so on"])
async def test_an_image_within_a_text_is_found(data: bytes, after: str) -> None:
    """Resellers answer with a data URI, in Markdown or alone."""
    text = f"Here:\n![x](data:image/png;base64,{b64(data)}{after}"
    document, _ = await document_of(answer({"text": text}).replace(b"/", b"\\/"))
    assert document["data"] == [{"b64_json": b64(data)}]


async def test_half_a_character_in_a_text_is_no_matter() -> None:
    """A text that was cut within an emoji is written so by JavaScript; the image beside it is whole."""
    document, _ = await document_of(answer({"text": "A cat \ud83d"}, inline()))
    assert [item["b64_json"] for item in document["data"]] == [b64(PNG)]


async def test_one_image_is_passed_on_where_one_was_asked_for() -> None:
    """More would not be what was asked for."""
    document, got = await document_of(answer(inline(JPEG), inline(PNG)))
    assert document["data"] == [{"b64_json": b64(JPEG)}]
    assert got.reading().images == 1


@pytest.mark.parametrize(
    "usage", [None, {}, {"promptTokenCount": -1, "candidatesTokenCount": 3}, "x", {**USAGE, "totalTokenCount": 7}]
)
async def test_usage_that_is_none_is_not_passed_on(usage: object) -> None:
    """The cost is estimated then."""
    document, got = await document_of(answer(inline(), usage=usage))
    assert "usage" not in document
    assert got.reading().usage is None
    assert got.reading().usage_problem


BLOCKS = [
    ({"promptFeedback": {"blockReason": "SAFETY"}}, "input"),
    ({"promptFeedback": {"blockReason": "OTHER"}, "candidates": []}, "input"),
    *(
        ({"candidates": [{"finishReason": reason, "index": 0}]}, "output")
        for reason in (
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "SAFETY",
            "RECITATION",
            "PROHIBITED_CONTENT",
            "SPII",
            "BLOCKLIST",
        )
    ),
]


@pytest.mark.parametrize(("document", "stage"), BLOCKS, ids=str)
async def test_a_refusal_in_a_200_is_a_moderation_error(document: dict[str, object], stage: str) -> None:
    """The caller's own fault, in this API's words; the tokens it took are what the provider may charge for."""
    usage = {"promptTokenCount": 12, "totalTokenCount": 12, "promptTokensDetails": USAGE["promptTokensDetails"]}
    failure = await failure_of(answering(json.dumps({**document, "usageMetadata": usage}).encode()))
    assert (failure.outcome, failure.status, failure.pass_on) == (Outcome.REJECTED, 400, True)
    error = json.loads(failure.body)["error"]
    assert (error["type"], error["code"]) == ("image_generation_user_error", "moderation_blocked")
    assert error["moderation_details"]["moderation_stage"] == stage
    assert failure.charged_for == "moderated"
    assert failure.reading is not None
    assert failure.reading.usage == Usage(text_in=12)


async def test_the_categories_that_were_objected_to_are_told() -> None:
    """In plain words, those alone."""
    ratings = [
        {"category": "HARM_CATEGORY_HARASSMENT", "blocked": True},
        {"category": "HARM_CATEGORY_HATE_SPEECH", "blocked": False},
        {"category": "not a word"},
    ]
    body = json.dumps({"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": ratings}}).encode()
    failure = await failure_of(answering(body))
    assert json.loads(failure.body)["error"]["moderation_details"]["categories"] == ["harassment"]
    assert (failure.charged_for, failure.reading) == (None, None)


@pytest.mark.parametrize(
    "reason", ["NO_IMAGE", "IMAGE_OTHER", "MAX_TOKENS", "STOP", "OTHER", "WHO_KNOWS", "not a word"]
)
async def test_a_200_without_an_image_may_be_tried_again(reason: str) -> None:
    """It is nobody's fault; the tokens it took are what the provider may charge for. The model's words stay here."""
    usage = {**USAGE, "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 1290}]}
    failure = await failure_of(answering(answer({"text": "No secret."}, finish=reason, usage=usage)))
    assert (failure.outcome, failure.reason, failure.pass_on) == (Outcome.REJECTED, "no_image", False)
    assert failure.charged_for == "failed"
    assert failure.reading is not None
    assert failure.reading.usage == Usage(text_in=12, text_out=1290)
    assert "secret" not in failure.message


def rpc(code: int, status: str, message: str = "m", *details: object) -> bytes:
    """An error of `google.rpc`."""
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": details}}).encode()


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}
KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
ERRORS: list[tuple[str, bytes, Outcome, str, tuple[str | None, bool]]] = [
    ("400 Bad Request", rpc(400, "INVALID_ARGUMENT"), Outcome.REJECTED, "status_4xx", ("invalid_argument", True)),
    (
        "400 Bad Request",
        b"[" + rpc(400, "INVALID_ARGUMENT") + b"]",
        Outcome.REJECTED,
        "status_4xx",
        ("invalid_argument", True),
    ),
    (
        "400 Bad Request",
        rpc(400, "INVALID_ARGUMENT", "m", KEY),
        Outcome.REJECTED,
        "account",
        ("invalid_argument", False),
    ),
    ("400 Bad Request", rpc(400, "FAILED_PRECONDITION"), Outcome.REJECTED, "account", ("failed_precondition", False)),
    ("401 Unauthorized", rpc(401, "UNAUTHENTICATED"), Outcome.REJECTED, "account", ("unauthenticated", False)),
    ("403 Forbidden", rpc(403, "PERMISSION_DENIED"), Outcome.REJECTED, "account", ("permission_denied", False)),
    ("404 Not Found", rpc(404, "NOT_FOUND"), Outcome.REJECTED, "account", ("not_found", False)),
    (
        "429 Too Many Requests",
        rpc(429, "RESOURCE_EXHAUSTED", "m", RETRY),
        Outcome.REJECTED,
        "status_429",
        ("resource_exhausted", False),
    ),
    ("500 Internal Server Error", rpc(500, "INTERNAL"), Outcome.REJECTED, "status_5xx", ("internal", False)),
    ("503 Service Unavailable", rpc(503, "UNAVAILABLE"), Outcome.REJECTED, "status_5xx", ("unavailable", False)),
    ("504 Gateway Timeout", rpc(504, "DEADLINE_EXCEEDED"), Outcome.UNKNOWN, "timeout", ("deadline_exceeded", False)),
    ("502 Bad Gateway", b"<html>", Outcome.UNKNOWN, "status_5xx", (None, False)),
    ("400 Bad Request", b'{"error": {}}', Outcome.REJECTED, "status_4xx", (None, True)),
    ("400 Bad Request", b"[]", Outcome.REJECTED, "status_4xx", (None, True)),
]


@pytest.mark.parametrize(("status", "body", "outcome", "reason", "told_as"), ERRORS, ids=lambda v: str(v)[:40])
async def test_each_error_is_judged(
    status: str, body: bytes, outcome: Outcome, reason: str, told_as: tuple[str | None, bool]
) -> None:
    """What it means for money, whose fault it is, and in which words it is told."""
    code, pass_on = told_as
    failure = await failure_of(answering(body, status=status))
    assert (failure.outcome, failure.reason, failure.pass_on) == (outcome, reason, pass_on)
    assert failure.charged_for is None
    error = json.loads(failure.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert failure.retry_after == (30.0 if reason == "status_429" else None)


async def test_a_key_that_the_provider_repeats_is_not_passed_on() -> None:
    """Its message is shown without it."""
    failure = await failure_of(answering(rpc(400, "INVALID_ARGUMENT", f"bad {SECRET}"), status="400 Bad Request"))
    assert SECRET.encode() not in failure.body
    assert SECRET not in failure.message


GARBAGE = [b"", b"{", b"[]", b'"x"', b'{"candidates": ' + b"[" * 500, json.dumps({"a": ["y" * 100] * 2000}).encode()]


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:20]))
async def test_a_200_that_is_no_answer_may_have_been_billed(body: bytes) -> None:
    """Nobody knows what became of it."""
    failure = await failure_of(answering(body))
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "garbage")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"candidates": 3}',
        b'{"candidates": [3, {"content": 4}, {"content": {"parts": [5, {"inlineData": 6}]}}]}',
    ],
)
async def test_an_answer_of_another_shape_holds_no_image(body: bytes) -> None:
    """Nothing in it is taken for granted."""
    assert (await failure_of(answering(body))).reason == "no_image"


async def test_an_answer_that_breaks_off_may_have_been_billed() -> None:
    """Whatever of the image came."""

    async def script(connection: Any) -> None:
        await connection.request()
        whole = answer(inline())
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(whole)}\r\n\r\n"
        await connection.send(head.encode() + whole[:3000])

    failure = await failure_of(script)
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "reset")


async def test_several_images_are_several_calls() -> None:
    """Each of one image; together they are one answer."""
    call = call_of(n=3)
    call = replace(call, calls=3, route=replace(call.route, capabilities=replace(call.route.capabilities, n=1)))
    async with sent(answering(answer(inline())), call) as (got, server):
        document = json.loads(await read_all(got))
        assert len(server.requests) == 3
    assert document["data"] == [{"b64_json": b64(PNG)}] * 3
    assert document["usage"]["total_tokens"] == 3 * 1302
    assert got.reading().usage == Usage(text_in=36, image_out=3870)


async def test_a_call_that_is_given_up_leaves_nothing_open() -> None:
    """Its connection is closed."""

    async def script(connection: Any) -> None:
        await connection.request()
        await asyncio.sleep(60)

    async def ask() -> None:
        async with sent(script):
            pass

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


DETAILS: partial[dict[str, object]] = partial(dict, modality="IMAGE")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (USAGE, Usage(text_in=12, image_out=1290)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 9}, Usage(image_in=5, image_out=9)),
        (
            {
                "promptTokenCount": 1132,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}, DETAILS(tokenCount=1120)],
                "cachedContentTokenCount": 10,
                "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
                "candidatesTokenCount": 1130,
                "candidatesTokensDetails": [DETAILS(tokenCount=1120)],
                "thoughtsTokenCount": 70,
                "toolUsePromptTokenCount": 3,
                "totalTokenCount": 2335,
            },
            Usage(text_in=5, text_in_cached=10, image_in=1120, image_out=1120, text_out=80),
        ),
        ({"promptTokenCount": True, "candidatesTokenCount": 9}, "malformed"),
        (
            {"promptTokenCount": 1, "candidatesTokenCount": 9, "candidatesTokensDetails": [DETAILS(tokenCount=10)]},
            "negative",
        ),
        ({"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}, "zero_output"),
        (None, "missing"),
        ([1], "malformed"),
    ],
    ids=str,
)
def test_tokens_are_told_by_kind(metadata: object, expected: Usage | str) -> None:
    """Thinking is text output, tools are text input, and what is not split is an image's."""
    assert read_usage(told(metadata), images=1) == expected


@given(
    texts=st.lists(st.one_of(st.text(max_size=20), st.integers(1000, 1500).map(lambda n: 'é"\\' * n)), max_size=5),
    cuts=CUTS,
)
def test_long_strings_are_found_however_they_are_cut(texts: list[str], cuts: list[int]) -> None:
    """Each place holds the very text, short ones stay in the document."""
    raw = json.dumps({"a": texts, "b": {"c": "z" * 3000}}).encode()
    strings = LongStrings()
    for piece in cut(raw, cuts):
        strings.feed(piece)
    document = strings.document()
    assert isinstance(document, dict)

    def whole(text: str) -> str:
        place = strings.place(text)
        return text if place is None else str(json.loads(b'"' + raw[slice(*place)] + b'"'))

    assert [whole(text) for text in document["a"]] == texts
    assert whole(document["b"]["c"]) == "z" * 3000
    assert strings.place(document["b"]["c"]) is not None


@pytest.mark.parametrize("document", [{"promptFeedback": {"blockReason": "SAFETY"}}, {"candidates": []}], ids=str)
async def test_a_bill_for_nothing_that_cannot_be_read_is_not_taken_for_none(document: dict[str, object]) -> None:
    """Tokens were counted, nobody knows how many: settling presumes them where the price row charges for such."""
    spoilt = {"promptTokenCount": 12, "candidatesTokenCount": "many"}
    failure = await failure_of(answering(json.dumps({**document, "usageMetadata": spoilt}).encode()))
    assert (failure.outcome, failure.reading) == (Outcome.REJECTED, None)
    assert failure.charged_for in ("moderated", "failed")
