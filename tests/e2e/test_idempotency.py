"""Repeated requests over real sockets: the openai SDK that repeats by itself, keys, kills, several processes."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import APIConnectionError, APITimeoutError, OpenAI

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.clients import CLIENTS, logged, picture
from tests.e2e.policies import tight
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

PATH = "/v1/images/generations"
BODY = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
LOW: Any = {"model": "gpt-image-2", "quality": "low", "size": "1024x1024"}
KEY = {"Idempotency-Key": "order-17"}
OWN = {"x-request-id", "date", "idempotent-replayed"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a project for every kind of refusal."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), CLIENTS, sandbox) as running:
        yield running


@pytest.fixture
def key(request: pytest.FixtureRequest) -> dict[str, str]:
    """An idempotency key of this test's own."""
    return {"Idempotency-Key": request.node.name}


def client(stack: Stack, **options: Any) -> OpenAI:
    """A client that is soon out of patience and repeats by itself."""
    return OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=2, **options)


def same(one: Reply, other: Reply) -> bool:
    """Whether two answers are alike in every byte and header but those of the hop and the cost: a repeat has none."""
    left_out = (OWN - {"x-request-id"}) | {"x-gateway-cost"}

    def headers(reply: Reply) -> dict[str, str]:
        return {name: value for name, value in reply.headers.items() if name not in left_out}

    return (one.status, one.body, headers(one)) == (other.status, other.body, headers(other))


@pytest.mark.parametrize("headers", [{}, KEY], ids=["without a key", "with a key"])
def test_the_sdk_times_out_and_repeats_and_pays_once(stack: Stack, headers: Mapping[str, str]) -> None:
    """The client gives up before the image is there, its retry gets that image: one upstream call, one settlement."""
    before = booked(stack)
    stack.sandbox.fault("slow", seconds=3, times=None)
    with client(stack, timeout=2) as impatient:
        made = impatient.images.with_raw_response.generate(prompt="twice?", extra_headers=dict(headers), **LOW)
    assert made.headers["idempotent-replayed"] == "true"
    image = made.parse()
    assert image.data
    assert len(stack.sandbox.requests()) == 1
    settled(stack)
    assert (booked(stack) - before).requests == 1
    assert stack.record(made.headers["x-request-id"])["state"] == "settled"


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "upload"}], ids=["without a key", "with a key"])
def test_an_upload_is_repeated_with_another_boundary_and_paid_once(stack: Stack, headers: Mapping[str, str]) -> None:
    """The SDK writes the form anew for its retry; it is the same request all the same."""
    stack.sandbox.fault("slow", seconds=3, times=None)
    image = ("in.png", picture(512, 512), "image/png")
    with client(stack, timeout=2) as impatient:
        made = impatient.images.with_raw_response.edit(
            image=image, prompt="sharper", extra_headers=dict(headers), **LOW
        )
    assert made.headers["idempotent-replayed"] == "true"
    assert len(stack.sandbox.requests()) == 1


def test_a_streaming_client_that_was_cut_off_finds_the_whole_stream(stack: Stack, key: dict[str, str]) -> None:
    """The connection breaks in the middle of the events; who asks again under the key gets all of them."""
    body = {**BODY, "prompt": "stream it", "stream": True, "partial_images": 2}
    first = aiohttp_cut(stack, body, key)
    again = stack.post(PATH, body, headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.body.startswith(first)
    assert again.body.count(b"data: ") == 3
    assert len(stack.sandbox.requests()) == 1


def test_events_that_have_begun_are_left_to_nobody(stack: Stack) -> None:
    """No SDK repeats a stream that it has the beginning of: a retry alike is another request's, refused meanwhile."""
    body = {**BODY, "prompt": "leave it", "stream": True, "partial_images": 2}
    aiohttp_cut(stack, body, {"x-stainless-retry-count": "0"})
    wait_until(lambda: stack.metric("in_flight") == 0, what="the end of what was left")
    settled(stack)
    again = stack.post(PATH, body, headers={"x-stainless-retry-count": "1"})
    assert (again.status, again.headers.get("idempotent-replayed")) == (200, None)
    assert len(stack.sandbox.requests()) == 2


def test_events_that_have_not_begun_are_found_by_the_retry(stack: Stack) -> None:
    """The SDK gives up before the first event, and its retry gets them all: one upstream call."""
    stack.sandbox.fault("slow", seconds=3, times=None)
    with client(stack, timeout=2) as impatient:
        events = list(impatient.images.generate(prompt="slow events", stream=True, partial_images=1, **LOW))
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "completed"]
    assert len(stack.sandbox.requests()) == 1


def aiohttp_cut(stack: Stack, body: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """Send a request, take the first bytes of the answer and hang up."""
    stack.sandbox.fault("slow_body", seconds=1)

    async def cut() -> bytes:
        every = {"authorization": f"Bearer {stack.key()}", **headers}
        async with (
            aiohttp.ClientSession(headers=every) as session,
            session.post(f"http://127.0.0.1:{stack.port}{PATH}", json=dict(body)) as answer,
        ):
            return await answer.content.read(1000)

    return asyncio.run(cut())


def test_alike_requests_of_an_sdk_stay_apart(stack: Stack) -> None:
    """Four identical requests at once, none of them cut off, are four images."""

    def make() -> None:
        with client(stack) as patient:
            patient.images.generate(prompt="four times", **LOW)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(stack.sandbox.requests()) == 4


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_replay_is_the_same_in_every_byte(stack: Stack, key: dict[str, str], *, stream: bool) -> None:
    """Body and headers, with one more header that says so; its cost is found under the first request's id."""
    body = {**BODY, "prompt": "again", "quality": "high", **({"stream": True, "partial_images": 2} if stream else {})}
    first, again = (stack.post(PATH, body, headers=key) for _ in range(2))
    assert same(first, again)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(stack.sandbox.requests()) == 1
    assert stack.record(again.headers["x-request-id"])["state"] == "settled"


def test_a_replay_is_told_in_the_log_and_costs_nothing(stack: Stack, key: dict[str, str]) -> None:
    """Its line says so, with an id of its own, no attempt and no cost."""
    for _ in range(2):
        stack.post(PATH, BODY, headers=key)
    wait_until(lambda: '"replayed":true' in stack.log.read_text(), what="the replay's log line")
    lines = [json.loads(line) for line in stack.log.read_text().splitlines() if '"replayed":true' in line]
    assert (lines[-1]["status"], lines[-1]["attempts"], lines[-1]["cost_usd"]) == (200, 0, None)
    assert logged(stack, lines[-1]["request_id"])


def test_an_upload_under_a_key_is_known_by_its_parts(stack: Stack, key: dict[str, str]) -> None:
    """Another boundary is the same request; another image is a conflict."""

    def send(boundary: str, image: bytes) -> Reply:
        head = 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        field = 'Content-Disposition: form-data; name="prompt"\r\n\r\nsharper\r\n'
        content = f"--{boundary}\r\n{head}".encode() + image + f"\r\n--{boundary}\r\n{field}--{boundary}--\r\n".encode()
        headers = {**key, "content-type": f"multipart/form-data; boundary={boundary}"}
        return stack.post("/v1/images/edits", data=content, headers=headers)

    first, again = send("one", picture()), send("another", picture())
    assert same(first, again)
    conflict = send("third", picture(seed=91))
    assert (conflict.status, conflict.error["code"]) == (409, "idempotency_key_reused")
    assert len(stack.sandbox.requests()) == 1


def test_another_body_under_the_same_key_is_a_conflict(stack: Stack, key: dict[str, str]) -> None:
    """409 in the one shape, which no SDK repeats; the first answer stays what it is."""
    first = stack.post(PATH, BODY, headers=key)
    for other in ({**BODY, "prompt": "another"}, {**BODY, "n": 2}):
        reply = stack.post(PATH, other, headers=key)
        assert (reply.status, reply.headers["x-should-retry"]) == (409, "false")
        assert (reply.error["type"], reply.error["code"]) == ("idempotency_error", "idempotency_key_reused")
    assert same(stack.post(PATH, BODY, headers=key), first)
    assert len(stack.sandbox.requests()) == 1


def test_somebody_elses_key_is_another_one(stack: Stack, key: dict[str, str]) -> None:
    """Another project, and another API key of the same project, get work of their own."""
    mine = stack.post(PATH, BODY, headers=key)
    theirs = stack.post(PATH, BODY, headers=key, project="other")
    made = stack.command("keys", "create", "--project", "team")
    colleague = stack.post(PATH, BODY, headers={**key, "authorization": f"Bearer {made.stdout.strip()}"})
    assert [reply.status for reply in (mine, theirs, colleague)] == [200] * 3
    assert len({reply.headers["x-request-id"] for reply in (mine, theirs, colleague)}) == 3
    assert len(stack.sandbox.requests()) == 3


@pytest.mark.parametrize(
    ("project", "body", "headers", "status"),
    [
        ("team", {**BODY, "prompt": ""}, {}, 400),
        ("team", {**BODY, "size": "1x1"}, {}, 400),
        ("team", {**BODY, "model": "gpt-image-2.5-flare"}, {"X-Gateway-Job-Type": "only_main"}, 403),
        ("team", BODY, {"X-Gateway-Job-Type": "hero"}, 403),
        ("team", BODY, {"X-Gateway-Max-Cost": "0.000001"}, 402),
        ("poor", BODY, {}, 402),
    ],
)
def test_what_is_refused_binds_nothing(
    stack: Stack, key: dict[str, str], *, project: str, body: Mapping[str, Any], headers: Mapping[str, str], status: int
) -> None:
    """The key is free after it: the refusal is made anew, and another body under it is no conflict."""
    for prompt in (body["prompt"], body["prompt"], f"{body['prompt']}."):
        reply = stack.post(PATH, {**body, "prompt": prompt}, headers={**key, **headers}, project=project)
        if body["prompt"]:
            assert reply.status == status, reply.body
        assert "idempotent-replayed" not in reply.headers
        assert reply.status != 409


def test_a_quota_that_is_used_up_binds_nothing(stack: Stack, key: dict[str, str]) -> None:
    """A 429 is the moment's answer; the same key is asked again, with another body too."""
    assert stack.post(PATH, BODY, project="throttled", headers={"Idempotency-Key": "first"}).status == 200
    replies = [stack.post(PATH, {**BODY, "prompt": str(n)}, project="throttled", headers=key) for n in range(2)]
    assert [reply.status for reply in replies] == [429, 429]
    assert len(stack.sandbox.requests()) == 1


def test_a_refusal_of_the_provider_binds_nothing(stack: Stack, key: dict[str, str]) -> None:
    """Moderation is passed on and costs nothing; the next request under the key is sent."""
    stack.sandbox.fault("moderation")
    first, again = (stack.post(PATH, BODY, headers=key) for _ in range(2))
    assert (first.status, again.status) == (400, 200)
    assert first.error["code"] == "moderation_blocked"
    assert "idempotent-replayed" not in again.headers


def test_an_unknown_outcome_is_the_answer_from_then_on(stack: Stack, key: dict[str, str]) -> None:
    """The provider took the work and never answered: one error, the same for ever, and one call."""
    stack.sandbox.fault("timeout", match={}, times=None)
    headers = {**key, "X-Gateway-Job-Type": "hasty"}
    first, again = (stack.post(PATH, BODY, headers=headers) for _ in range(2))
    assert (first.status, first.headers["x-should-retry"]) == (504, "false")
    assert (again.status, again.body, again.headers["x-should-retry"]) == (504, first.body, "false")
    assert again.headers["idempotent-replayed"] == "true"
    assert len(stack.sandbox.requests()) == 1


@pytest.mark.parametrize("bad", ["", "k" * 256, "caf\xe9"])
def test_a_key_that_cannot_be_one_is_refused(stack: Stack, bad: str) -> None:
    """400 that names the header, before anything else is looked at."""
    reply = stack.post(PATH, BODY, headers={"Idempotency-Key": bad})
    assert (reply.status, reply.error["param"]) == (400, "Idempotency-Key")
    assert stack.sandbox.requests() == []


async def test_a_hundred_duplicates_at_once_are_one_call(stack: Stack, key: dict[str, str]) -> None:
    """One upstream call, one entry of the ledger equal to the bill, a hundred identical bodies."""
    before = booked(stack)
    stack.sandbox.fault("slow", seconds=1)
    replies = await together(stack, BODY, key, 100)
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert len({reply.headers["x-request-id"] for reply in replies}) == 1
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 99
    assert len(stack.sandbox.requests()) == 1
    await asyncio.to_thread(settled, stack)
    change = booked(stack) - before
    assert (change.requests, change.route) == (1, billed(stack.sandbox))


async def together(stack: Stack, body: Mapping[str, Any], headers: Mapping[str, str], times: int) -> list[Reply]:
    """Send one request many times at once."""
    every = {"authorization": f"Bearer {stack.key()}", **headers}
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(
        headers=every, connector=aiohttp.TCPConnector(limit=0), timeout=timeout
    ) as session:

        async def one() -> Reply:
            async with session.post(f"http://127.0.0.1:{stack.port}{PATH}", json=dict(body)) as answer:
                lower = {name.lower(): value for name, value in answer.headers.items()}
                return Reply(answer.status, lower, await answer.read())

        return list(await asyncio.gather(*(one() for _ in range(times))))


async def test_workers_share_what_repeats(tmp_path: Path, sandbox: Sandbox) -> None:
    """Duplicates spread over three processes are one call, and each process serves the answer."""
    with running_gateway(tmp_path, tight("100"), sandbox, "--workers", "3") as stack:
        stack.key()
        sandbox.fault("slow", seconds=1)
        replies = await together(stack, {**BODY}, KEY, 60)
        assert {(reply.status, reply.body) for reply in replies} == {(200, replies[0].body)}
        assert len(sandbox.requests()) == 1


def test_a_killed_gateway_never_makes_it_twice(tmp_path: Path, sandbox: Sandbox) -> None:
    """SIGKILL between sending and settling: the retry gets a stable error that names the request; nothing is sent."""
    options = ("--lease", "1")
    with running_gateway(tmp_path, tight("100"), sandbox, *options) as stack:
        project_key = stack.key()
        sandbox.fault("slow", seconds=20)
        lost = threading.Thread(target=suppressed, args=(stack,))
        lost.start()
        wait_until(sandbox.requests, 20, "the request upstream")
        stack.process.kill()
        stack.process.wait()
        lost.join(20)
    request_id = dict(sandbox.requests()[0]["headers"])["x-client-request-id"]
    with running_gateway(tmp_path, tight("100"), sandbox, *options) as stack:
        stack.keys["team"] = project_key
        replies = [stack.post(PATH, BODY, headers=KEY) for _ in range(2)]
        for reply in replies:
            assert (reply.status, reply.headers["x-should-retry"]) == (504, "false")
            assert request_id in reply.error["message"]
        assert len(sandbox.requests()) == 1
        with OpenAI(base_url=stack.url, api_key=project_key, max_retries=2) as sdk, pytest.raises(Exception) as raised:
            sdk.images.generate(prompt=str(BODY["prompt"]), extra_headers=KEY, **LOW)
        assert not isinstance(raised.value, APIConnectionError | APITimeoutError)
        assert len(sandbox.requests()) == 1
        assert stack.record(request_id)["state"] == "presumed"


def suppressed(stack: Stack) -> None:
    """Ask, and expect to be cut off."""
    with pytest.raises(OSError):
        stack.post(PATH, BODY, headers=KEY)


def test_an_answer_outlives_the_gateway(tmp_path: Path, sandbox: Sandbox) -> None:
    """After a restart the same key gets the same answer, from disk."""
    with running_gateway(tmp_path, tight("100"), sandbox) as stack:
        project_key = stack.key()
        first = stack.post(PATH, BODY, headers=KEY)
        assert stack.stop(signal.SIGTERM) == 0
    with running_gateway(tmp_path, tight("100"), sandbox) as stack:
        stack.keys["team"] = project_key
        assert same(stack.post(PATH, BODY, headers=KEY), first)
    assert len(sandbox.requests()) == 1


def test_waiting_elsewhere_ends_soon_after_the_answer(tmp_path: Path, sandbox: Sandbox) -> None:
    """A duplicate at another gateway process on the same store and disk gets the answer that the first one brings."""
    shared = {"IMAGE_GATEWAY_DATA": str(tmp_path / "shared")}
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with (
        running_gateway(one, tight("100"), sandbox, environ=shared) as first,
        running_gateway(two, tight("100"), sandbox, environ=shared) as second,
    ):
        second.keys["team"] = first.key()
        sandbox.fault("slow", seconds=2)
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(first.post(PATH, BODY, headers=KEY)))
        asking.start()
        wait_until(sandbox.requests, 20, "the request upstream")
        began = time.monotonic()
        joined = second.post(PATH, BODY, headers=KEY)
        asking.join(30)
        assert time.monotonic() - began < 20
        assert same(joined, replies[0])
        assert joined.headers["idempotent-replayed"] == "true"
        assert fetch(f"http://127.0.0.1:{second.port}/healthz").status == 200
    assert len(sandbox.requests()) == 1
