"""Providers of kind `gemini` behind the same API: an OpenAI client sees images, errors and money as anywhere else."""

from __future__ import annotations

import base64
import http.server
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, Totals, billed, booked, crowd, nano, settled
from tests.e2e.clients import decoded, picture
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until
from tests.ports import free_port

PORT = free_port()
"""Where a web server has an image."""
POLICY = """
models:
  banana:
    capabilities:
      operations: [generate, edit]
      n: 1
      references: 14
      quality: [standard]
      output_formats: [png, jpeg]
      sizes:
        ratios: ["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]
        resolutions: {"512": 262144, 1K: 1048576, 2K: 4194304, 4K: 16777216}
    output_tokens:
      by_resolution: {"512": 747, 1K: 1120, 2K: 1680, 4K: 2520}
      buckets: {"512": 262144, 1K: 1048576, 2K: 4194304}
      text: 1000
    input_image_tokens: {max_per_image: 1120}
    price:
      - from: 2026-01-01
        tokens_per_million: {text_in: "0.50", image_in: "0.50", image_out: "60", text_out: "3"}
        charged_for: [succeeded, moderated, failed]
  plantain:
    capabilities:
      operations: [generate]
      n: 1
      quality: [standard]
      output_formats: [png]
      sizes: {ratios: ["1:1", "3:2"], resolutions: {1K: 1048576}}
    output_tokens: {by_resolution: {1K: 1290}}
    price:
      - from: 2026-01-01
        tokens_per_million: {text_in: "0.30", image_in: "0.30", image_out: "30", text_out: "2.50"}
providers:
  main: {kind: gemini, base_url: "${SANDBOX_URL}/gemini/v1beta", api_key: "${SANDBOX_KEY}", timeout: 20s}
  hasty: {kind: gemini, base_url: "${SANDBOX_URL}/gemini/v1beta", api_key: "${SANDBOX_KEY}", timeout: 2s}
  locked: {kind: gemini, base_url: "${SANDBOX_URL}/gemini/v1beta", api_key: "${NO_KEY}"}
routes:
  main/flash: {provider: main, model: banana, upstream_model: gemini-3.1-flash-image}
  main/old: {provider: main, model: plantain, upstream_model: gemini-2.5-flash-image}
  hasty/flash: {provider: hasty, model: banana, upstream_model: gemini-3.1-flash-image}
  locked/flash: {provider: locked, model: banana, upstream_model: gemini-3.1-flash-image}
job_types:
  draft: {routes: [main/flash]}
  old: {routes: [main/old]}
  hasty: {routes: [hasty/flash]}
  locked: {routes: [locked/flash, main/flash]}
  once: {routes: [main/flash], retry: {attempts: 1}}
  kept: {routes: [main/flash], cache: 1h}
projects:
  team:
    job_types: [draft, old, hasty, locked, once, kept]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
    chargeback: {multiplier: "1.15"}
  links:
    job_types: [draft]
    default_job_type: draft
    compatibility: legacy
    budgets: [{window: total, limit: "1000"}]
  refused:
    job_types: [draft]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
egress: {allow: ["127.0.0.1:SHOP"]}
""".replace("SHOP", str(PORT))
GENERATE = "/v1/images/generations"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose providers speak `generateContent`."""
    keys = {"NO_KEY": "of-nobody-0123456789"}
    with running_gateway(tmp_path_factory.mktemp("gemini"), POLICY, sandbox, environ=keys) as running:
        yield running


@dataclass(frozen=True)
class Bench:
    """A gateway, its provider, and what was booked before the test."""

    stack: Stack
    sandbox: Sandbox
    before: Totals
    client: openai.OpenAI
    """The vendor's own, which repeats nothing here."""

    def ask(self, body: dict[str, Any], job_type: str = "draft") -> Reply:
        """Ask for an image."""
        return self.stack.post(GENERATE, {"prompt": "a cat", **body}, headers={"X-Gateway-Job-Type": job_type})

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """What arrived at the provider."""
        return self.sandbox.requests()

    @property
    def billed(self) -> int:
        """What the provider charges."""
        return billed(self.sandbox)

    @property
    def spent(self) -> Totals:
        """What was booked since."""
        settled(self.stack)
        return booked(self.stack) - self.before

    def paid(self, images: int) -> None:
        """Assert that what is booked is the bill, to the nano-dollar, and certain."""
        spent = self.spent
        assert (spent.route, spent.images, spent.unconfirmed) == (self.billed, images, 0)


@pytest.fixture
def bench(stack: Stack, sandbox: Sandbox) -> Iterator[Bench]:
    """Everything at rest."""
    settled(stack)
    with openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as client:
        yield Bench(stack, sandbox, booked(stack), client)


def test_an_image_is_made_and_paid(bench: Bench) -> None:
    """Size, format and tokens are told; the provider is asked for a ratio and a resolution."""
    answer = bench.client.images.generate(model="banana", prompt="a cat", size="1024x1024")
    assert answer.data
    assert decoded(answer.data[0].b64_json).size == (1024, 1024)
    assert (answer.size, answer.output_format) == ("1024x1024", "png")
    assert answer.usage
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 1120)
    [sent] = [request["fields"] for request in bench.arrived]
    assert (sent["aspectRatio"], sent["imageSize"]) == ("1:1", "1K")
    assert bench.billed == 67_201_000
    bench.paid(1)


@pytest.mark.parametrize(
    ("body", "job_type", "wanted", "made"),
    [
        ({"size": "1536x1024"}, "draft", ("3:2", "2K"), (2496, 1664)),
        ({"size": "16:9"}, "draft", ("16:9", "1K"), (1344, 768)),
        ({"size": "9:16", "resolution": "512"}, "draft", ("9:16", "512"), (384, 672)),
        ({"size": "auto", "resolution": "2K"}, "draft", ("1:1", "2K"), (2048, 2048)),
        ({"size": "3:2"}, "old", ("3:2", "1K"), (1248, 832)),
    ],
)
def test_sizes_are_asked_for_as_they_are_priced(
    bench: Bench, body: dict[str, str], job_type: str, wanted: Any, made: Any
) -> None:
    """By ratio and resolution, and the bill is never above what was held."""
    reply = bench.ask(body, job_type)
    assert reply.status == 200, reply.body
    assert decoded(reply.json["data"][0]["b64_json"]).size == made
    [sent] = [request["fields"] for request in bench.arrived]
    assert (sent["aspectRatio"], sent["imageSize"]) == wanted
    bench.paid(1)
    assert bench.billed <= nano(reply.headers["x-gateway-cost-estimate"])


def test_an_image_of_any_ratio_is_no_answer_to_who_asks_for_one(bench: Bench) -> None:
    """Where the provider chose the ratio, only who leaves it to it again is answered by the same image."""
    asked = {"prompt": "any ratio", "size": "auto"}
    bench.ask(asked, "kept")
    wait_until(lambda: "x-gateway-cache" in bench.ask(asked, "kept").headers, 30, "the same image again")
    assert "x-gateway-cache" not in bench.ask({**asked, "size": "1024x1024"}, "kept").headers


def test_several_images_are_several_calls(bench: Bench) -> None:
    """One answer with all of them, and one sum."""
    answer = bench.client.images.generate(model="banana", prompt="a cat", n=4, size="512x512")
    assert answer.data
    assert [decoded(item.b64_json).size for item in answer.data] == [(512, 512)] * 4
    assert answer.usage
    assert answer.usage.output_tokens == 4 * 747
    assert len(bench.arrived) == 4
    bench.paid(4)


def test_uploads_are_edited(bench: Bench) -> None:
    """Both images reach the provider byte for byte, and the picture keeps the first one's ratio."""
    wide, other = picture(320, 180), picture(64, 64, kind="JPEG")
    answer = bench.client.images.edit(
        model="banana", prompt="make it blue", image=[("a.png", wide), ("b.txt", other, "text/plain")]
    )
    assert answer.data
    assert decoded(answer.data[0].b64_json).size == (1344, 768)
    [request] = bench.arrived
    assert [(file["content_type"], file["bytes"]) for file in request["files"]] == [
        ("image/png", len(wide)),
        ("image/jpeg", len(other)),
    ]
    assert answer.usage
    assert answer.usage.input_tokens == 2 * 1120 + 3
    bench.paid(1)


class Shop(http.server.BaseHTTPRequestHandler):
    """A web server with one image."""

    def do_GET(self) -> None:
        """The image, or nothing."""
        body = picture(90, 60) if self.path == "/cat.png" else b"nothing here"
        self.send_response(200 if self.path == "/cat.png" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """The address of a web server that policy lets callers' URLs lead to."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Shop) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{PORT}"
        server.shutdown()
        thread.join()


def test_an_image_by_url_is_edited(bench: Bench, shop: str) -> None:
    """The provider fetches no URLs, so the gateway does; a data URL is decoded on the way."""
    data = f"data:image/png;base64,{base64.b64encode(picture(60, 90)).decode()}"
    body = {"prompt": "make it blue", "images": [{"image_url": f"{shop}/cat.png"}, {"image_url": data}]}
    reply = bench.stack.post("/v1/images/edits", body)
    assert reply.status == 200, reply.body
    assert decoded(reply.json["data"][0]["b64_json"]).size == (1248, 832)
    [request] = bench.arrived
    assert [file["bytes"] for file in request["files"]] == [len(picture(90, 60)), len(picture(60, 90))]
    bench.paid(1)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png;base64,AAAA", "no image"),
        ("data:image/png;base64,????", "not base64"),
        ("http://127.0.0.1:%d/gone.png", "404"),
        ("http://127.0.0.1:9/cat.png", ""),
        ("ftp://example.com/cat.png", ""),
    ],
)
def test_an_image_that_cannot_be_had_is_the_callers_fault(bench: Bench, shop: str, url: str, words: str) -> None:
    """A 400 says why, nothing reaches the provider and nothing is spent."""
    assert shop
    named = url % PORT if "%d" in url else url
    reply = bench.stack.post("/v1/images/edits", {"prompt": "make it blue", "images": [{"image_url": named}]})
    assert (reply.status, bench.arrived) == (400, []), reply.body
    assert words in reply.error["message"]
    bench.paid(0)


def test_what_is_too_large_for_one_request_is_refused(bench: Bench) -> None:
    """Before anything is sent, in words; nothing is spent."""
    noise = io.BytesIO()
    Image.effect_noise((2900, 2900), 90).save(noise, "PNG", compress_level=0)
    with pytest.raises(openai.BadRequestError, match="at most 20 MB"):
        bench.client.images.edit(model="banana", prompt="x", image=[noise.getvalue(), noise.getvalue()])
    assert bench.arrived == []
    bench.paid(0)


def test_answers_with_links(bench: Bench) -> None:
    """Clients that want links have them, and behind each the image."""
    body = {"prompt": "a cat", "n": 2, "size": "512x512", "response_format": "url"}
    answer = bench.stack.post(GENERATE, body, project="links")
    assert answer.status == 200, answer.body
    for item in answer.json["data"]:
        reply = fetch(item["url"])
        assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert len(bench.arrived) == 2


def test_a_stream_is_told_as_events(bench: Bench) -> None:
    """The provider has none of its own; the finished image is one event."""
    stream = bench.client.images.generate(model="banana", prompt="a cat", size="512x512", stream=True)
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.completed"]
    assert decoded(events[0].b64_json).size == (512, 512)
    bench.paid(1)


def test_an_image_within_a_text_and_one_that_was_thought(bench: Bench) -> None:
    """Both are a reseller's and a model's way to answer; thinking is paid as text."""
    for prompt in ("as-data-uri please", "thinks-first please"):
        reply = bench.ask({"prompt": prompt, "size": "1:1"})
        assert reply.status == 200, reply.body
        assert [decoded(item["b64_json"]).size for item in reply.json["data"]] == [(1024, 1024)]
    bench.paid(2)


@pytest.mark.parametrize(
    ("prompt", "stage"),
    [
        ("blocked-by-moderation", "input"),
        ("block:IMAGE_SAFETY", "input"),
        ("block:BLOCKLIST", "input"),
        ("finish:IMAGE_SAFETY", "output"),
        ("finish:IMAGE_RECITATION", "output"),
        ("finish:PROHIBITED_CONTENT", "output"),
    ],
)
def test_a_refusal_is_the_vendor_s_own_error(bench: Bench, prompt: str, stage: str) -> None:
    """As if the first vendor had refused it; what the provider counted is booked, and no more."""
    with pytest.raises(openai.BadRequestError) as caught:
        bench.client.images.generate(model="banana", prompt=prompt)
    assert (caught.value.code, caught.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["moderation_details"]["moderation_stage"] == stage
    assert len(bench.arrived) == 1
    assert bench.billed > 0
    bench.paid(0)


def test_a_refusal_is_priced_again_by_the_tokens_that_it_counted(stack: Stack, tmp_path: Path) -> None:
    """The record has them: the same prices come to what was booked, and another price to what it is for."""
    reply = stack.post(GENERATE, {"prompt": "blocked-by-moderation"}, project="refused")
    settled(stack)
    assert (reply.status, reply.headers["x-gateway-attempts"]) == (400, "1")
    record = stack.record(reply.headers["x-request-id"], project="refused")
    cost = nano(record["cost"]["route"])
    assert (record["cost_source"], record["usage"]["text_in"] * 500) == ("usage", cost)

    of_it = ("--window", "total", "--by", "project", "--project", "refused")
    [row] = stack.spend("--reprice", str(stack.policy), *of_it)
    assert (nano(row["route_usd"]), nano(row["repriced_route_usd"])) == (cost, cost)
    for old, new, times in (('image_out: "60"', 'image_out: "59.4"', 1), ('text_in: "0.50"', 'text_in: "1"', 2)):
        folder = tmp_path / str(times)
        folder.mkdir()
        (folder / "policy.yaml").write_text(POLICY.replace(old, new))
        [row] = stack.spend("--reprice", str(folder), *of_it)
        assert nano(row["repriced_route_usd"]) == times * cost
        done = stack.command("replay", "--policy", str(folder), "--project", "refused", "--json")
        assert done.returncode == 0, done.stderr
        [replayed] = json.loads(done.stdout)["rows"]
        assert nano(replayed["replayed_route_usd"]) == times * cost


def test_a_refusal_that_counts_nothing_costs_nothing(bench: Bench) -> None:
    """No tokens told, none booked."""
    bench.sandbox.fault("moderation", stage="output")
    with pytest.raises(openai.BadRequestError):
        bench.client.images.generate(model="banana", prompt="a cat")
    assert bench.billed == 0
    bench.paid(0)


@pytest.mark.parametrize("prompt", ["finish:NO_IMAGE", "finish:IMAGE_OTHER", "finish:MAX_TOKENS"])
def test_no_image_is_tried_once_more(bench: Bench, prompt: str) -> None:
    """Each try has a hold of its own, and both are booked by what they counted."""
    with pytest.raises(openai.InternalServerError) as caught:
        bench.client.images.generate(model="banana", prompt=prompt)
    assert caught.value.status_code == 502
    assert prompt.removeprefix("finish:") in caught.value.message
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(bench.arrived) == 2
    bench.paid(0)


def test_an_image_that_comes_at_the_second_try(bench: Bench) -> None:
    """The first one's tokens are paid besides."""
    bench.sandbox.fault("wrong_count")
    answer = bench.client.images.generate(model="banana", prompt="a cat")
    assert answer.data
    assert len(bench.arrived) == 2
    bench.paid(1)


ERRORS: list[tuple[dict[str, Any], int, str | None]] = [
    ({"name": "rate_limit", "retry_after": 7}, 429, "rate_limit_exceeded"),
    ({"name": "status", "status": 400, "message": "Bad ratio."}, 400, "invalid_argument"),
    ({"name": "status", "status": 400, "code": "FAILED_PRECONDITION"}, 502, "upstream_error"),
    ({"name": "status", "status": 403}, 502, "upstream_error"),
    ({"name": "status", "status": 404}, 502, "upstream_error"),
    ({"name": "status", "status": 500}, 502, "upstream_error"),
    ({"name": "status", "status": 503}, 502, "upstream_error"),
    ({"name": "connection_closed"}, 502, "upstream_error"),
]


@pytest.mark.parametrize(("fault", "status", "code"), ERRORS, ids=lambda value: str(value)[:60])
def test_each_error_is_told_in_this_api_s_words(
    bench: Bench, fault: dict[str, Any], status: int, code: str | None
) -> None:
    """Nothing is billed, so nothing is booked, unless nobody knows."""
    bench.sandbox.fault(times=None, **fault)
    reply = bench.ask({}, "once")
    assert (reply.status, reply.error["code"]) == (status, code)
    if status == 429:
        assert 7 <= float(reply.headers["retry-after"]) <= 10
    if fault["name"] != "connection_closed":
        bench.paid(0)


UNCLEAR = ["lost_response", "reset", "half_body", "garbage", "timeout"]


@pytest.mark.parametrize("fault", UNCLEAR)
def test_what_may_have_been_billed_is_presumed(bench: Bench, fault: str) -> None:
    """At least the bill is booked, unconfirmed, and the client is told not to repeat it."""
    bench.sandbox.fault(fault)
    reply = bench.ask({"size": "512x512"}, "hasty")
    assert reply.status in (502, 504)
    assert reply.headers["x-should-retry"] == "false"
    spent = bench.spent
    assert spent.route == spent.unconfirmed >= bench.billed
    assert len(bench.arrived) == 1


@pytest.mark.parametrize("fault", ["no_usage", "zero_usage", "garbage_usage"])
def test_usage_that_is_none_is_estimated(bench: Bench, fault: str) -> None:
    """Never below the bill."""
    bench.sandbox.fault(fault)
    reply = bench.ask({"prompt": "a cat", "size": "512x512"})
    assert reply.status == 200
    spent = bench.spent
    assert spent.route >= bench.billed
    assert spent.unconfirmed == 0


def test_a_large_image_goes_through(bench: Bench) -> None:
    """Twenty megabytes of it, whole."""
    bench.sandbox.fault("pad", bytes=15_000_000)
    reply = bench.ask({"prompt": "a cat", "size": "512x512"})
    assert len(base64.b64decode(reply.json["data"][0]["b64_json"])) > 15_000_000
    bench.paid(1)


def test_an_account_without_a_key_is_passed_over(bench: Bench) -> None:
    """The vendor says so with a 400, which is not the caller's fault here."""
    reply = bench.ask({}, "locked")
    assert (reply.status, reply.headers["x-gateway-route"]) == (200, "main/flash")
    assert [request["status"] for request in bench.arrived] == [400, 200]
    assert "of-nobody" not in json.dumps(bench.arrived)
    bench.paid(1)


def mixed(number: int, small: bytes) -> Ask:
    """One of many requests, each fifth an edit, some refused and some for several images."""
    prompts = ("a cat", "a dog", "thinks-first", "as-data-uri", "blocked-by-moderation", "finish:IMAGE_SAFETY", "a cow")
    body = {"prompt": prompts[number % 7], "size": ("1:1", "512x512", "16:9")[number % 3], "resolution": "512"}
    if number % 5 == 0:
        return Ask({**body, "model": "banana"}, path="/v1/images/edits", files=[("image", small)])
    return Ask({**body, "n": 1 + number % 3})


async def test_two_hundred_mixed_requests_are_booked_as_they_are_billed(bench: Bench) -> None:
    """Images, edits, several at once, refusals: to the nano-dollar, nothing unconfirmed and nothing held."""
    small = picture(30, 20)
    replies = await crowd([mixed(number, small) for number in range(200)], [bench.stack], at_once=40)
    assert {reply.status for reply in replies} == {200, 400}
    made = sum(len(reply.json["data"]) for reply in replies if reply.status == 200)
    bench.paid(made)
