"""Decisions as clients meet them: ratios, other words for a quality, retired models; the real SDK, the real sandbox."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator

import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from gateway.sandbox.client import Sandbox
from tests.e2e.policies import PROVIDERS
from tests.e2e.stack import Stack, running_gateway

GONE = """
models:
  old-painter:
    retires: 2026-01-01
    replacement: gpt-image-2.5-flare
    capabilities:
      {operations: [generate], n: 10, stream: true, quality: [fine], output_formats: [png], sizes: [512x512]}
    legacy: {quality: {fine: medium}, sizes: {512x512: 1024x1024}}
"""
POLICY = (
    GONE
    + PROVIDERS % {"timeout": "20s"}
    + """
routes:
  old: {provider: main, model: old-painter}
  new: {provider: main, model: gpt-image-2}
  flare: {provider: main, model: gpt-image-2.5-flare}
job_types:
  draft: {routes: [new, flare], defaults: {quality: low, size: 1024x1024}}
  late: {routes: [old], defaults: {quality: fine}}
  drawn: {routes: [new, flare], order: weighted, defaults: {quality: low, size: 1024x1024}}
projects:
  team:
    job_types: [draft, late, drawn]
    default_job_type: draft
    budgets: [{window: day, limit: "100"}]
"""
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a route whose model has retired."""
    with running_gateway(tmp_path_factory.mktemp("decisions"), POLICY, sandbox) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    """The vendor's SDK."""
    with OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as made:
        yield made


def size_of(picture: str | None) -> tuple[int, int]:
    """Width and height of a PNG."""
    content = base64.b64decode(picture or "")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_a_ratio_is_asked_for_in_pixels(client: OpenAI) -> None:
    """`16:9` reaches the provider as a size that it makes, and the picture has it."""
    answer = client.images.generate(prompt="a lighthouse", size="16:9")

    assert answer.data is not None
    assert size_of(answer.data[0].b64_json) == (1280, 720)
    with pytest.raises(BadRequestError, match="a ratio such as 3:2") as caught:
        client.images.generate(prompt="a lighthouse", size="wide")
    assert caught.value.param == "size"


def test_a_quality_means_the_same_picture_on_another_model(client: OpenAI) -> None:
    """The other model's `high` is asked for where the first one's `medium` was meant, and costs the same."""
    plain = client.images.with_raw_response.generate(prompt="a lighthouse", quality="medium")
    other = client.images.with_raw_response.generate(
        prompt="a lighthouse", quality="medium", background="transparent", output_format="png"
    )

    assert (plain.headers["X-Gateway-Route"], other.headers["X-Gateway-Route"]) == ("new", "flare")
    assert other.parse().quality == "high"
    assert plain.headers["X-Gateway-Cost-Estimate"] == other.headers["X-Gateway-Cost-Estimate"]


def test_a_retired_model_is_replaced_and_everybody_is_told(client: OpenAI, stack: Stack) -> None:
    """Its words and sizes are those of the replacement; a header, a metric and the record say so."""
    before = stack.metric("replaced_total", route="old")
    raw = client.images.with_raw_response.generate(
        prompt="a lighthouse", size="512x512", extra_headers={"X-Gateway-Job-Type": "late"}
    )
    made = raw.parse()

    assert (raw.headers["X-Gateway-Route"], made.quality, made.size) == ("old", "medium", "1024x1024")
    assert raw.headers["X-Gateway-Replaced"] == "old-painter -> gpt-image-2.5-flare"
    assert raw.headers["Sunset"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert re.fullmatch(r"@[0-9]+", raw.headers["Deprecation"])
    assert stack.metric("replaced_total", route="old") == before + 1
    assert stack.record(raw.headers["x-request-id"])["model"] == "gpt-image-2.5-flare"


def test_transparent_jpeg_is_refused_before_it_turns_white(client: OpenAI) -> None:
    """Both fields are named, and nothing is spent."""
    with pytest.raises(BadRequestError, match="background 'transparent' and output_format 'jpeg'"):
        client.images.generate(prompt="a lighthouse", background="transparent", output_format="jpeg")


def test_a_header_that_cannot_be_read_is_an_error(client: OpenAI) -> None:
    """`X-Gateway-Degrade` is `never` or `allow`."""
    with pytest.raises(APIStatusError, match="never or allow") as caught:
        client.images.generate(prompt="a lighthouse", extra_headers={"X-Gateway-Degrade": "no"})
    assert caught.value.status_code == 400


def test_weights_share_requests_out(client: OpenAI) -> None:
    """Both routes get some of them; each request is drawn by its own id."""
    routes = {
        client.images.with_raw_response.generate(
            prompt="a lighthouse", extra_headers={"X-Gateway-Job-Type": "drawn"}
        ).headers["X-Gateway-Route"]
        for _ in range(24)
    }

    assert routes == {"new", "flare"}
