"""The encoding of a request decides nothing: JSON and form of the same edit meet the same routes and prices."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError
from gateway.domain.job import Job, Operation, Wishes
from gateway.domain.policy import DegradeStep, JobType, Order, Project
from gateway.domain.route import RouteLimits
from gateway.ports import Body
from gateway.routing.decision import Asked
from gateway.routing.dry_run import Undecided, decide_asked
from gateway.steps.classify import classify
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from gateway.web.multipart_body import read_multipart
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, GPT_IMAGE_25, TODAY, policy, route
from tests.web.forms import Item, write_form
from tests.web.recording import in_pieces

LIMITS = BodyLimits()
BOUNDARY = "b0undary"
PICTURE = "data:image/png;base64,iVBORw0KGgo="
KIND = JobType(
    "draft",
    (
        route("main", GPT_IMAGE_2),
        replace(route("flare", GPT_IMAGE_25), limits=RouteLimits(images_per_minute=5)),
        route("old", GPT_IMAGE_15),
        route("one", GPT_IMAGE_2, capabilities=replace(GPT_IMAGE_2.capabilities, n=1, stream=False, references=2)),
    ),
    order=Order.CHEAPEST,
    defaults={"size": "1024x1024"},
    allow={"quality": ("low", "medium", "high")},
    degrade=(DegradeStep(8000, {"quality": "low", "n": 2}),),
)
TEAM = Project("team", ("draft",), "draft")
RULES = policy(*KIND.routes, job_type=KIND, project=TEAM)

FIELDS = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1, max_size=300).filter(lambda text: "\0" not in text)},
    optional={
        "model": st.sampled_from(("gpt-image-2", "gpt-image-2.5-flare", "job:draft", "unknown")),
        "n": st.integers(0, 11),
        "size": st.sampled_from(("auto", "1024x1024", "1536x1024", "3:2", "16:9", "7:1", "2048x2048", "large")),
        "quality": st.sampled_from(("auto", "low", "medium", "high", "max", "ultra")),
        "background": st.sampled_from(("auto", "opaque", "transparent")),
        "output_format": st.sampled_from(("png", "jpeg", "webp", "gif")),
        "stream": st.booleans(),
        "partial_images": st.integers(0, 4),
        "user": st.just("anna"),
    },
)


async def as_json(fields: dict[str, Any], images: int, *, mask: bool) -> Body:
    """The edit as JSON, read by the gateway's reader."""
    content = {**fields, "images": [{"image_url": PICTURE}] * images}
    if mask:
        content["mask"] = {"image_url": PICTURE}
    return await read_json(in_pieces(json.dumps(content).encode()), LIMITS)


async def as_form(fields: dict[str, Any], images: int, *, mask: bool) -> Body:
    """The edit as a form, read by the gateway's reader."""
    items = [Item(name, _text(value)) for name, value in fields.items()]
    items += [Item("image[]", b"\x89PNG", f"{number}.png", "image/png") for number in range(images)]
    items += [Item("mask", b"\x89PNG", "mask.png", "image/png")] if mask else []
    return await read_multipart(BOUNDARY.encode(), in_pieces(write_form(items, BOUNDARY)), LIMITS)


def _text(value: object) -> bytes:
    return (str(value).lower() if isinstance(value, bool) else str(value)).encode()


async def decided(body: Body) -> tuple[Job | None, object]:
    """The job that a body is, and what is decided for it or said instead."""
    job = None
    try:
        job = classify(Operation.EDIT, None, body)
        ranked = decide_asked(Asked(job, Wishes(), Caller("key_1", "team"), TEAM, RULES, TODAY)).ranked
        return job, (tuple(ranked.quotes), ranked.refusals)
    except Undecided as undecided:
        return job, (undecided.error.status, undecided.error.code, undecided.error.message)
    except GatewayError as error:
        return job, (error.status, error.code, error.message)
    finally:
        await body.aclose()


@settings(max_examples=150, deadline=None)
@given(fields=FIELDS, images=st.integers(0, 4), mask=st.booleans())
async def test_json_and_form_of_a_request_are_decided_alike(fields: dict[str, Any], images: int, mask: bool) -> None:
    """The same job, the same quotes in the same order, or the same error in the same words."""
    by_json = await decided(await as_json(fields, images, mask=mask))
    by_form = await decided(await as_form(fields, images, mask=mask))

    assert by_json == by_form
