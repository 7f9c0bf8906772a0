"""Stored images as clients meet them: in every mode the bytes that the provider made, and never a failed request."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.clients import logged
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

POLICY = """
egress: {allow: ["127.0.0.0/8"]}
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  evolink:
    preset: evolink
    base_url: "${SANDBOX_URL}/evolink/v1"
    api_key: "${SANDBOX_KEY}"
    task: {poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  single: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, capabilities: {n: 1}}
  evolink: {provider: evolink, offer: evolink/gpt-image-2}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}}
  single: {routes: [single], defaults: {size: 1024x1024, quality: low}}
  cached: {routes: [main], defaults: {size: 1024x1024, quality: low}, cache: 24h}
  foreign: {routes: [evolink], defaults: {quality: low}}
  foreign-cached: {routes: [evolink], defaults: {quality: low}, cache: 24h}
projects:
  team: {job_types: [draft, single, foreign], default_job_type: draft, budgets: [{window: total, limit: "1000"}]}
  other: {job_types: [draft], budgets: [{window: total, limit: "1000"}]}
  every:
    job_types: [draft, single]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
    images: {store: always, keep: 7d}
  none:
    job_types: [draft, cached]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
    images: {store: never}
  strict:
    job_types: [draft, foreign]
    default_job_type: foreign
    budgets: [{window: total, limit: "1000"}]
    images: {convert: true}
  thrifty:
    job_types: [cached]
    budgets: [{window: total, limit: "1000"}]
    quotas: [{images: 3, per: day}]
  frugal:
    job_types: [cached, foreign-cached]
    default_job_type: cached
    budgets: [{window: total, limit: "1000"}]
  choosy: {job_types: [cached], client_model: prefer, budgets: [{window: total, limit: "1000"}]}
  hoarder: {job_types: [cached], budgets: [{window: total, limit: "1000"}], images: {store: always}}
"""
GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
BODY = {"prompt": "a lighthouse", "model": "gpt-image-2"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with projects that store their images in every way."""
    with running_gateway(tmp_path_factory.mktemp("assets"), POLICY, sandbox) as running:
        yield running


def ask(stack: Stack, project: str = "team", headers: dict[str, str] | None = None, **fields: object) -> Reply:
    """Ask for images."""
    reply = stack.post(GENERATE, {**BODY, **fields}, project=project, headers=headers or {})
    assert reply.status == 200, reply.body
    return reply


def inline(reply: Reply) -> list[bytes]:
    """The images of an answer that has them inline."""
    return [base64.b64decode(item["b64_json"]) for item in reply.json["data"]]


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def format_of(content: bytes) -> str:
    """The format of a picture, every pixel of it decoded."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return (image.format or "").lower()


def assets(stack: Stack, reply: Reply, project: str, number: int) -> list[dict[str, Any]]:
    """What the record of a request says of its images, once all of them are stored."""
    request_id = reply.headers["x-request-id"]

    def all_there() -> Any:
        found = stack.record(request_id, project=project).get("assets", [])
        return found if len(found) == number else None

    return list(wait_until(all_there, 30, "the images in the record"))


def test_the_sdk_gets_links_from_any_model(stack: Stack, sandbox: Sandbox) -> None:
    """`response_format` is the gateway's business: the provider, which refuses it, never sees it."""
    with OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as client:
        answer = client.images.generate(prompt="a cat", model="gpt-image-2", n=2, response_format="url")
        given = client.images.generate(prompt="a cat", model="gpt-image-2", response_format="b64_json")
    assert answer.data is not None
    assert given.data is not None
    assert given.data[0].b64_json
    for item in answer.data:
        assert item.url is not None
        reply = fetch(item.url)
        assert reply.headers["content-type"] == "image/png"
        assert digest(reply.body) in item.url
    assert all("response_format" not in each["fields"] for each in sandbox.requests())
    wrong = stack.post(GENERATE, {**BODY, "response_format": "hex"})
    assert (wrong.status, wrong.error["param"]) == (400, "response_format")
    settled(stack)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("job_type", ["draft", "single"])
def test_every_image_of_every_answer_is_stored(stack: Stack, job_type: str, n: int) -> None:
    """In passing, where policy says so: the record lists them, with links that lead to the very same bytes."""
    reply = ask(stack, "every", {"x-gateway-job-type": job_type}, n=n, prompt=f"a {job_type} {n}")
    made = inline(reply)
    found = assets(stack, reply, "every", n)
    assert [each["id"].rpartition("_")[2] for each in found] == [digest(image) for image in made]
    for each, image in zip(found, made, strict=True):
        got = fetch(each["url"])
        assert (got.status, got.body) == (200, image)
        assert (each["bytes"], each["type"]) == (len(image), got.headers["content-type"])
    settled(stack)


def test_large_images_and_streams_are_stored_too(stack: Stack, sandbox: Sandbox) -> None:
    """Images of 6 MB, and the whole ones of a stream, its partial ones not."""
    sandbox.fault("pad", bytes=6_000_000)
    large = ask(stack, "every", prompt="a large one")
    [image] = inline(large)
    [each] = assets(stack, large, "every", 1)
    assert len(image) > 6_000_000
    assert digest(fetch(each["url"]).body) == digest(image)
    stream = ask(stack, "every", stream=True, partial_images=2, prompt="a stream")
    events = [json.loads(line[5:]) for line in stream.body.splitlines() if line.startswith(b"data:{") or b"{" in line]
    whole = [base64.b64decode(event["b64_json"]) for event in events if event["type"].endswith("completed")]
    found = assets(stack, stream, "every", 1)
    assert [digest(image) for image in whole] == [each["id"].rpartition("_")[2] for each in found]
    settled(stack)


def test_links_are_listed_where_all_is_stored(stack: Stack) -> None:
    """A link that was asked for is in the record as well, once."""
    reply = ask(stack, "every", n=2, response_format="url", prompt="two links")
    found = assets(stack, reply, "every", 2)
    assert [item["url"].partition("?")[0] for item in reply.json["data"]] == [
        each["url"].partition("?")[0] for each in found
    ]
    assert "assets" not in stack.record(ask(stack, response_format="url").headers["x-request-id"])
    settled(stack)


def test_nothing_is_stored_of_a_project_that_says_so(stack: Stack) -> None:
    """Links are answered inline, which a header says; nothing of it is in the storage."""
    before = stack.metrics()
    reply = ask(stack, "none", n=2, response_format="url")
    assert reply.headers["x-gateway-not-stored"] == "2"
    assert [format_of(image) for image in inline(reply)] == ["png", "png"]
    assert stack.get("/v1/assets", project="none").json["data"] == []
    assert "x-gateway-not-stored" not in ask(stack, response_format="url").headers
    assert stack.metric("assets_failed_total") == sum(
        value for name, value in before.items() if name.startswith("image_gateway_assets_failed_total")
    )
    settled(stack)


def test_a_task_of_such_a_project_keeps_its_images_for_an_hour(stack: Stack) -> None:
    """There is no other way to get them."""
    made = stack.post(GENERATE, BODY, project="none", headers={"prefer": "respond-async"})

    def over() -> Any:
        told = stack.get(f"/v1/tasks/{made.json['id']}", project="none").json
        return told if told["status"] == "completed" else None

    task = wait_until(over, 60, "the end of the task")
    [image] = stack.get("/v1/assets", project="none").json["data"]
    assert 0 < image["expires_at"] - task["created"] <= 3_700
    assert digest(fetch(task["results"][0]).body) == image["id"].rpartition("_")[2]
    settled(stack)


def test_a_format_that_was_not_asked_for_is_said(stack: Stack, sandbox: Sandbox) -> None:
    """By the bytes, whatever the provider says; and the link has the type of the bytes."""
    for form in ("b64_json", "url"):
        sandbox.fault("wrong_format", provider="evolink", format="jpeg")
        reply = ask(stack, headers={"x-gateway-job-type": "foreign"}, response_format=form)
        assert reply.headers["x-gateway-output-format"] == "jpeg"
        assert reply.json["output_format"] == "jpeg"
        [item] = reply.json["data"]
        content = fetch(item["url"]).body if form == "url" else inline(reply)[0]
        assert format_of(content) == "jpeg"
        if form == "url":
            assert fetch(item["url"]).headers["content-type"] == "image/jpeg"
    settled(stack)


def test_it_is_converted_where_policy_says_so(stack: Stack, sandbox: Sandbox) -> None:
    """A client that asked for PNG gets PNG; what comes as it was asked for is not touched."""
    for form in ("b64_json", "url"):
        sandbox.fault("wrong_format", provider="evolink", format="jpeg")
        reply = ask(stack, "strict", response_format=form)
        assert "x-gateway-output-format" not in reply.headers
        assert reply.json["output_format"] == "png"
        [item] = reply.json["data"]
        content = fetch(item["url"]).body if form == "url" else inline(reply)[0]
        assert format_of(content) == "png"
    settled(stack)


def test_parts_of_an_image(stack: Stack) -> None:
    """Ranges, conditions and HEAD as RFC 9110 has them, so that downloads can go on and caches can ask."""
    [item] = ask(stack, response_format="url").json["data"]
    whole = fetch(item["url"])
    tag, size = whole.headers["etag"], len(whole.body)
    assert tag == f'"{digest(whole.body)}"'
    assert whole.headers["accept-ranges"] == "bytes"
    for sent, (start, end) in {
        "bytes=0-9": (0, 10),
        "bytes=10-": (10, size),
        "bytes=-7": (size - 7, size),
        f"bytes=5-{size * 2}": (5, size),
    }.items():
        part = fetch(item["url"], headers={"range": sent})
        assert (part.status, part.body) == (206, whole.body[start:end]), sent
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
    for sent in ("bytes=0-1,4-5", "lines=1-2", "bytes=9-3", "bytes=x", "bytes=-"):
        assert fetch(item["url"], headers={"range": sent}).status == 200
    beyond = fetch(item["url"], headers={"range": f"bytes={size}-"})
    assert (beyond.status, beyond.headers["content-range"], beyond.body) == (416, f"bytes */{size}", b"")
    assert fetch(item["url"], headers={"range": "bytes=0-3", "if-range": tag}).status == 206
    assert fetch(item["url"], headers={"range": "bytes=0-3", "if-range": '"other"'}).status == 200
    for sent in (tag, f'"a", W/{tag}', "*"):
        same = fetch(item["url"], headers={"if-none-match": sent})
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    head = fetch(item["url"], method="HEAD", headers={"range": "bytes=0-9"})
    assert (head.status, head.headers["content-length"], head.body) == (200, str(size), b"")
    settled(stack)


def test_a_project_sees_and_deletes_its_own_alone(stack: Stack) -> None:
    """Nobody else learns whether an image is there: unknown, deleted and another's are the same 404."""
    for number in range(3):
        ask(stack, "other", response_format="url", prompt=f"number {number}")
    first = stack.get("/v1/assets?limit=2", project="other").json
    rest = stack.get(f"/v1/assets?limit=2&after={first['last_id']}", project="other").json
    listed = [each["id"] for each in (*first["data"], *rest["data"])]
    assert (len(listed), first["has_more"], rest["has_more"]) == (3, True, False)
    assert listed == sorted(listed)
    one = first["data"][0]
    assert len(fetch(one["url"]).body) == one["bytes"]
    assert not {each["id"] for each in stack.get("/v1/assets?limit=100").json["data"]} & set(listed)
    for wrong in ("limit=0", "limit=101", "limit=x", "after=img_none"):
        assert stack.get(f"/v1/assets?{wrong}").status == 400
    key = {"authorization": f"Bearer {stack.key('other')}"}
    url = f"http://127.0.0.1:{stack.port}/v1/assets/{one['id']}"
    foreign = fetch(url, method="DELETE", headers={"authorization": f"Bearer {stack.key('team')}"})
    assert (foreign.status, foreign.error["code"]) == (404, "not_found")
    assert fetch(one["url"], method="DELETE").status == 401
    dry = fetch(url, method="DELETE", headers={**key, "X-Gateway-Dry-Run": "true"})
    assert (dry.status, dry.error["param"]) == (400, "X-Gateway-Dry-Run")
    assert fetch(url, method="DELETE", headers=key).json == {"id": one["id"], "object": "asset", "deleted": True}
    gone = [fetch(url, method="DELETE", headers=key), fetch(url, headers=key), fetch(one["url"])]
    assert [reply.status for reply in gone] == [404] * 3
    assert {reply.error["message"] for reply in gone} == {foreign.error["message"]}
    settled(stack)


@pytest.mark.parametrize("made_up", ["a.b", "req_..", "img_1", "req_" + "a" * 200])
def test_a_request_that_cannot_be_is_unknown_and_no_fault_of_the_storage(stack: Stack, made_up: str) -> None:
    """404, and no warning that what was kept of it cannot be read."""
    assert stack.get(f"/v1/requests/{made_up}", project="frugal").status == 404
    later = ask(stack, "frugal", prompt=made_up).headers["x-request-id"]
    assert f"what was kept of request {made_up} cannot be read" not in logged(stack, later)


def test_the_same_request_again_costs_nothing(stack: Stack, sandbox: Sandbox) -> None:
    """The same bytes, in either form, a header that says so, a record, and neither money nor quota taken."""
    first = ask(stack, "thrifty", prompt="a fox", n=2)
    assert "x-gateway-cache" not in first.headers
    assets(stack, first, "thrifty", 2)
    before, bill = booked(stack), billed(sandbox)
    again = ask(stack, "thrifty", prompt="a fox", n=2)
    assert (again.headers["x-gateway-cache"], again.headers["x-gateway-cost"]) == ("hit", "0.00")
    assert inline(again) == inline(first)
    same = ask(stack, "thrifty", prompt="a fox", n=2, quality="low", size="1024x1024", response_format="url")
    assert [digest(fetch(item["url"]).body) for item in same.json["data"]] == list(map(digest, inline(first)))
    assert (booked(stack), billed(sandbox)) == (before, bill)
    mine = again.headers["x-request-id"]
    [line] = [json.loads(line) for line in logged(stack, mine).splitlines() if f'"request_id":"{mine}"' in line]
    assert (line["images"], line["estimate_usd"], line["cost_usd"]) == (2, None, "0.00")
    told = stack.record(again.headers["x-request-id"], project="thrifty")
    assert (told["state"], told["cost"]["route"], told["images"]) == ("cached", "0.00", 2)
    assert told["cache"] == {"of": first.headers["x-request-id"]}
    assert len(told["assets"]) == 2
    assert stack.get(f"/v1/requests/{again.headers['x-request-id']}").status == 404
    assert stack.metric("cache_total", job_type="cached", result="hit") == 2
    settled(stack)


def test_a_field_that_was_left_out_is_not_the_same_as_one_that_is_sent(stack: Stack) -> None:
    """A retired model took it; whoever names the one of today has it sent, which the provider refuses."""
    said: dict[str, Any] = {"prompt": "a stylish owl", "style": "vivid"}
    plain: dict[str, Any] = {"prompt": "an owl of no style"}
    for fields in (said, plain):
        first = ask(stack, "choosy", model="dall-e-3", **fields)
        assets(stack, first, "choosy", 1)
        assert ask(stack, "choosy", model="dall-e-3", **fields).headers["x-gateway-cache"] == "hit"
    sent = stack.post(GENERATE, {**BODY, **said}, project="choosy")
    assert (sent.status, sent.json["error"]["param"]) == (400, "style")
    assert ask(stack, "choosy", **plain).headers["x-gateway-cache"] == "hit"


@pytest.mark.parametrize(("asked", "told"), [({}, "jpeg"), ({"output_format": "jpeg"}, None)], ids=str)
def test_an_earlier_answer_says_its_format_too(
    stack: Stack, sandbox: Sandbox, asked: dict[str, str], told: str | None
) -> None:
    """Where it is another than was asked for, as at the first time."""
    sandbox.fault("wrong_format", provider="evolink", format="jpeg")
    headers = {"x-gateway-job-type": "foreign-cached"}
    first = ask(stack, "frugal", headers, prompt="a lynx", **asked)
    assets(stack, first, "frugal", 1)
    again = ask(stack, "frugal", headers, prompt="a lynx", **asked)
    assert again.headers["x-gateway-cache"] == "hit"
    for reply in (first, again):
        assert reply.headers.get("x-gateway-output-format") == told
        assert reply.json["output_format"] == "jpeg"
    settled(stack)


def test_an_earlier_answer_is_made_anew_once_policy_has_images_converted(tmp_path: Path, sandbox: Sandbox) -> None:
    """One that is in the format asked for stays; so does what was made since, whatever came of converting it."""
    headers = {"x-gateway-job-type": "foreign-cached"}
    with running_gateway(tmp_path, POLICY, sandbox) as own:
        for prompt, came in (("a lynx", "jpeg"), ("a stoat", "png")):
            sandbox.fault("wrong_format", provider="evolink", format=came)
            assets(own, ask(own, "frugal", headers, prompt=prompt, output_format="png"), "frugal", 1)
        frugal = "default_job_type: cached\n"
        assert POLICY.count(frugal) == 1
        (own.policy / "policy.yaml").write_text(POLICY.replace(frugal, f"{frugal}    images: {{convert: true}}\n"))
        assert fetch(f"http://127.0.0.1:{own.admin_port}/admin/reload", method="POST").status == 200

        stays = ask(own, "frugal", headers, prompt="a stoat", output_format="png")
        assert stays.headers["x-gateway-cache"] == "hit"
        sandbox.fault("wrong_format", provider="evolink", format="jpeg")
        anew = ask(own, "frugal", headers, prompt="a lynx", output_format="png")
        assert "x-gateway-cache" not in anew.headers
        assets(own, anew, "frugal", 1)
        again = ask(own, "frugal", headers, prompt="a lynx", output_format="png")
        assert again.headers["x-gateway-cache"] == "hit"
        for reply in (stays, anew, again):
            assert "x-gateway-output-format" not in reply.headers
            assert format_of(inline(reply)[0]) == "png"
        settled(own)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a wolf"},
        {"n": 2},
        {"user": "b"},
        {"quality": "medium"},
        {"output_format": "jpeg"},
        {"moderation": "low"},
    ],
    ids=str,
)
def test_another_request_is_another_request(stack: Stack, other: dict[str, Any]) -> None:
    """Every field counts, those that only the provider knows as well."""
    common: dict[str, Any] = {"prompt": "a hare", "user": "a"}
    assets(stack, ask(stack, "frugal", **common), "frugal", 1)
    assert "x-gateway-cache" not in ask(stack, "frugal", **{**common, **other}).headers
    settled(stack)


def test_who_is_not_answered_from_the_storage(stack: Stack) -> None:
    """Streams, whoever says so, whoever has a key of its own, other projects, and projects that store nothing."""
    assets(stack, ask(stack, "frugal", prompt="an owl"), "frugal", 1)
    assert ask(stack, "frugal", prompt="an owl").headers["x-gateway-cache"] == "hit"
    for project, headers, fields in (
        ("frugal", {"x-gateway-cache": "skip"}, {}),
        ("frugal", {"idempotency-key": "an-owl"}, {}),
        ("frugal", {}, {"stream": True}),
        ("none", {"x-gateway-job-type": "cached"}, {}),
        ("none", {"x-gateway-job-type": "cached"}, {}),
        ("thrifty", {}, {}),
    ):
        reply = ask(stack, project, headers, prompt="an owl", **fields)
        assert "x-gateway-cache" not in reply.headers, (project, headers)
    wrong = stack.post(GENERATE, BODY, project="frugal", headers={"x-gateway-cache": "perhaps"})
    assert (wrong.status, wrong.error["param"]) == (400, "X-Gateway-Cache")
    settled(stack)


def test_a_link_that_would_end_at_once_is_no_answer(stack: Stack) -> None:
    """Images whose time is nearly over are sent inline once more; who wants links has new ones made."""
    [image] = assets(stack, ask(stack, "frugal", prompt="a heron"), "frugal", 1)
    _, mark, content = image["id"].split("_")
    old = time.time() - 24 * 3600 + 300
    os.utime(stack.data / "assets" / "images" / mark / content, (old, old))
    assert ask(stack, "frugal", prompt="a heron").headers["x-gateway-cache"] == "hit"
    reply = ask(stack, "frugal", prompt="a heron", response_format="url")
    assert "x-gateway-cache" not in reply.headers
    settled(stack)


def test_a_stream_is_no_repeat_where_all_is_stored_either(stack: Stack) -> None:
    """Who asks for events gets events, although the same images were made before."""
    assets(stack, ask(stack, "hoarder", prompt="an owl"), "hoarder", 1)
    assert ask(stack, "hoarder", prompt="an owl").headers["x-gateway-cache"] == "hit"
    reply = ask(stack, "hoarder", prompt="an owl", stream=True)
    assert "x-gateway-cache" not in reply.headers
    assert reply.headers["content-type"].startswith("text/event-stream")
    settled(stack)


def test_edits_are_the_same_by_the_bytes_of_their_images(stack: Stack, sandbox: Sandbox) -> None:
    """As a form, whatever its boundary and however a default is said, and as JSON."""

    def edit(image: bytes, **fields: str) -> Reply:
        with OpenAI(base_url=stack.url, api_key=stack.key("frugal"), max_retries=0) as client:
            answer = client.images.with_raw_response.edit(
                image=("a.png", image, "image/png"), prompt="bluer", extra_body=fields
            )
        return Reply(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)

    [one] = inline(ask(stack, "team", prompt="one"))
    [two] = inline(ask(stack, "team", prompt="two"))
    assets(stack, edit(one), "frugal", 1)
    assert edit(one).headers["x-gateway-cache"] == "hit"
    assert edit(one, quality="low").headers["x-gateway-cache"] == "hit"
    assert "x-gateway-cache" not in edit(two).headers
    data = "data:image/png;base64," + base64.b64encode(one).decode()
    body: dict[str, Any] = {"prompt": "redder", "images": [{"image_url": data}]}
    assets(stack, stack.post(EDIT, body, project="frugal"), "frugal", 1)
    assert stack.post(EDIT, body, project="frugal").headers["x-gateway-cache"] == "hit"
    assert len([each for each in sandbox.requests() if each["path"].endswith("/edits")]) == 3
    settled(stack)


def test_an_image_that_was_deleted_is_made_again(stack: Stack) -> None:
    """An entry is good for as long as its images are."""
    reply = ask(stack, "frugal", prompt="a swan")
    [image] = assets(stack, reply, "frugal", 1)
    key = {"authorization": f"Bearer {stack.key('frugal')}"}
    url = f"http://127.0.0.1:{stack.port}/v1/assets/{image['id']}"
    assert fetch(url, method="DELETE", headers=key).status == 200
    assert "x-gateway-cache" not in ask(stack, "frugal", prompt="a swan").headers
    settled(stack)
