"""A thousand clients at once on a budget, a quota, and a limit of requests in flight: never one image too many."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.embedded import embedded_store
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import NANO, Ask, admin, billed, booked, crowd, nano, settled
from tests.e2e.policies import ONE_ACCOUNT, PROVIDERS, tight
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

BODY = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
BY_THE_IMAGE = (
    PROVIDERS % {"timeout": "60s"}
    + """
routes:
  main/by-image:
    provider: main
    model: gpt-image-2
    upstream_model: gpt-image-2-2026-04-21
    price: [{from: 2026-05-01, per_image: {"1K": "0.04"}}]
job_types:
  draft: {routes: [main/by-image]}
projects:
  team: {job_types: [draft], budgets: [{window: total, limit: "%s"}]}
"""
)
"""A hold is as large as its settlement, so that a budget buys a number of images that is known beforehand."""

ONE_AT_A_TIME = (
    PROVIDERS % {"timeout": "60s"}
    + """
routes:
  main/one: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: {concurrent: 1}}
job_types:
  draft: {routes: [main/one]}
projects:
  team: {job_types: [draft], budgets: [{window: total, limit: "100"}]}
"""
)


def statuses(replies: list[Reply]) -> Counter[int]:
    """How often each status came."""
    return Counter(reply.status for reply in replies)


Start = Callable[..., list[Stack]]


@pytest.fixture
def start(tmp_path: Path, sandbox: Sandbox) -> Iterator[Start]:
    """Starts gateways under one policy, on one store that all share."""
    with ExitStack() as running:

        def begin(policy: str, gateways: int = 1) -> list[Stack]:
            store = running.enter_context(embedded_store(tmp_path / "store"))
            shared = {"IMAGE_GATEWAY_STORE": store, "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4}
            stacks = []
            for number in range(gateways):
                home = tmp_path / str(number)
                home.mkdir()
                stacks.append(running.enter_context(running_gateway(home, policy, sandbox, environ=shared)))
            return stacks

        yield begin


def check_budget(stacks: list[Stack], replies: list[Reply], *, served: int, limit: int) -> None:
    """So many were served, all others were told that the budget is spent, and the budget was spent to the last cent."""
    assert statuses(replies) == {200: served, 402: len(replies) - served}
    for reply in replies:
        if reply.status == 402:
            assert reply.error["code"] == "project_spend_limit_exceeded"
            assert reply.headers["x-should-retry"] == "false"
    for stack in stacks:
        settled(stack)
    assert len(stacks[0].sandbox.requests()) == served
    total = booked(stacks[0])
    assert (total.requests, total.images, total.unconfirmed) == (served, served, 0)
    assert total.route == limit
    assert total.route == round(sum(stack.metric("spend_usd_total", view="route") for stack in stacks) * NANO)
    (budget,) = (budget for budget in admin(stacks[0], "budgets") if budget["scope"] == "project:team")
    assert nano(budget["used_usd"]) == nano(budget["limit_usd"]) == limit
    refusals = sum(stack.metric("denied_total", reason="project_spend_limit_exceeded") for stack in stacks)
    assert refusals == len(replies) - served


@pytest.mark.parametrize(
    ("requests", "images", "gateways"),
    [
        pytest.param(150, 20, 1, id="one gateway"),
        pytest.param(150, 20, 2, id="two gateways"),
        pytest.param(1000, 100, 1, id="a thousand, one gateway", marks=pytest.mark.slow),
        pytest.param(1000, 100, 2, id="a thousand, two gateways", marks=pytest.mark.slow),
    ],
)
async def test_a_budget_for_so_many_images_serves_so_many(
    start: Start, requests: int, images: int, gateways: int
) -> None:
    """All at once on a budget for exactly so many images: these are served, the rest get 402, nothing is held."""
    limit = images * 40_000_000
    stacks = start(BY_THE_IMAGE % f"{limit // NANO}.{limit % NANO:09d}", gateways)
    replies = await crowd([Ask(BODY)] * requests, stacks, at_once=requests)
    check_budget(stacks, replies, served=images, limit=limit)


@pytest.mark.parametrize(
    ("requests", "images"),
    [pytest.param(150, 20, id="fast"), pytest.param(1000, 100, id="a thousand", marks=pytest.mark.slow)],
)
async def test_holds_alone_fill_a_budget(start: Start, requests: int, images: int) -> None:
    """Priced by tokens without usage in the answer: holds of the worst case, settled there, fill the budget exactly."""
    (probe,) = start(tight("1"))
    dry = probe.post("/v1/images/generations", BODY, headers={"x-gateway-dry-run": "true"})
    hold = -(-nano(dry.headers["x-gateway-cost-estimate"]) // 1000) * 1000
    limit = images * hold
    probe.policy.joinpath("policy.yaml").write_text(tight(f"{limit // NANO}.{limit % NANO:09d}"))
    assert probe.stop() == 0
    with running_gateway(
        probe.policy.parent,
        tight(f"{limit // NANO}.{limit % NANO:09d}"),
        probe.sandbox,
        environ={name: probe.environ[name] for name in ("IMAGE_GATEWAY_STORE", "IMAGE_GATEWAY_PEPPER")},
    ) as stack:
        stack.sandbox.fault("no_usage", times=None)
        replies = await crowd([Ask(BODY)] * requests, [stack], at_once=requests)
        settled(stack)
        assert statuses(replies) == {200: images, 402: requests - images}
        total = booked(stack)
        assert (total.requests, total.images, total.unconfirmed) == (images, images, 0)
        assert limit - 1000 * images < total.route <= limit
        assert total.route >= billed(stack.sandbox) > 0


async def test_a_budget_is_never_overspent_while_holds_shrink_to_costs(start: Start) -> None:
    """Settlements below their holds make room for more; the limit is not passed, in the end no hold fits any more."""
    limit, hold = 200_000_000, 10_000_000
    (stack,) = start(tight("0.20"))
    replies = await crowd([Ask(BODY)] * 200, [stack], at_once=50)
    settled(stack)
    kinds = statuses(replies)
    assert kinds[200] + kinds[402] == 200
    assert booked(stack).images == kinds[200]
    assert booked(stack).route == billed(stack.sandbox) <= limit
    while (await asyncio.to_thread(stack.post, "/v1/images/generations", BODY)).status == 200:
        settled(stack)
    assert limit - hold < booked(stack).route == billed(stack.sandbox) <= limit


@pytest.mark.parametrize(
    ("requests", "limit", "gateways"),
    [
        pytest.param(120, 60, 1, id="one gateway"),
        pytest.param(120, 60, 2, id="two gateways"),
        pytest.param(1000, 100, 1, id="a thousand", marks=pytest.mark.slow),
    ],
)
async def test_images_per_minute_are_counted_exactly(start: Start, requests: int, limit: int, gateways: int) -> None:
    """With n of 1 to 10 all at once no minute ever has more images than the quota, and what it has left is served."""
    stacks = start(tight("1000", f"[{{images: {limit}, per: minute}}]", timeout="60s"), gateways)
    counts = [n for n, _ in zip(itertools.cycle(range(1, 11)), range(requests), strict=False)]
    replies = await crowd([Ask({**BODY, "n": n}) for n in counts], stacks, at_once=requests)
    for stack in stacks:
        settled(stack)
    served = sum(n for n, reply in zip(counts, replies, strict=True) if reply.status == 200)
    assert set(statuses(replies)) == {200, 429}
    assert booked(stacks[0]).images == served == sum(line["images"] for line in stacks[0].sandbox.bill()["lines"])
    assert most_in_a_minute(stacks[0].sandbox) <= limit
    assert served >= limit - 9
    for reply in replies:
        check_quota_headers(reply, limit)


def most_in_a_minute(sandbox: Sandbox) -> int:
    """The most images that arrived within any span of a minute, a second less for the way there."""
    arrived: list[tuple[float, int]] = [
        (request["at"], int(request["fields"].get("n", 1))) for request in sandbox.requests()
    ]
    return max(sum(n for at, n in arrived if begin <= at < begin + 59) for begin, _ in arrived)


def check_quota_headers(reply: Reply, limit: int) -> None:
    """A refusal says when to come again, within a minute; a success what is left."""
    if reply.status == 429:
        assert reply.error["code"] == "rate_limit_exceeded"
        assert reply.error["type"] == "requests"
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert 0 < int(reply.headers["retry-after-ms"]) <= 60_000
        assert reply.headers["x-should-retry"] == "true"
    else:
        assert int(reply.headers["x-ratelimit-limit-images"]) == limit
        assert 0 <= int(reply.headers["x-ratelimit-remaining-images"]) < limit


@pytest.mark.parametrize(
    ("budget", "quotas", "status", "header", "value"),
    [
        ("0.009", "[]", 402, "x-gateway-budget-remaining", "0.003105"),
        ("10", "[{images: 1, per: hour}]", 429, "x-ratelimit-remaining-images", "0"),
    ],
)
def test_a_denial_says_what_is_left(
    start: Start, *, budget: str, quotas: str, status: int, header: str, value: str
) -> None:
    """402 and 429 carry job type, attempts and estimate as every answer does, and what is left of what denied them."""
    (stack,) = start(tight(budget, quotas))
    assert stack.post("/v1/images/generations", BODY).status == 200
    denied = stack.post("/v1/images/generations", BODY)
    assert (denied.status, denied.headers[header]) == (status, value)
    assert (denied.headers["x-gateway-job-type"], denied.headers["x-gateway-attempts"]) == ("draft", "0")
    assert nano(denied.headers["x-gateway-cost-estimate"]) > 0


def test_what_is_left_of_a_quota_is_the_projects_own(start: Start) -> None:
    """A route at its limit hands over to the next: the headers tell the project's quota all along, or nothing."""
    shared = ONE_ACCOUNT.replace(
        "model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}",
        "model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: {images_per_minute: 2}}",
        1,
    )
    quotas = 'budgets: [{window: day, limit: "1000"}]'
    (stack,) = start(shared.replace(quotas, f"quotas: [{{images: 10, per: minute}}]\n    {quotas}", 1))
    free = stack.post("/v1/images/generations", BODY, project="other")
    assert free.headers["x-gateway-route"] == "main/gpt-image-2"
    assert "x-ratelimit-limit-images" not in free.headers
    told = [stack.post("/v1/images/generations", BODY, headers={"x-gateway-job-type": "fallback"}) for _ in range(3)]
    assert [reply.headers["x-gateway-route"] for reply in told] == ["main/gpt-image-2", *["spare/gpt-image-2"] * 2]
    for used, reply in enumerate(told, 1):
        assert reply.headers["x-ratelimit-limit-images"] == "10"
        assert reply.headers["x-ratelimit-remaining-images"] == str(10 - used)


async def test_a_quota_takes_the_last_image_and_no_more(start: Start) -> None:
    """One after another the quota's images are served and the next refused; what was not made is given back."""
    (stack,) = start(tight("1000", "[{images: 6, per: hour}]"))
    stack.sandbox.fault("status", status=400, code="invalid_value")

    def ask(n: int) -> Reply:
        return stack.post("/v1/images/generations", {**BODY, "n": n})

    found: list[Any] = [(await asyncio.to_thread(ask, n)).status for n in (4, 4, 3, 2, 1)]
    assert found == [400, 200, 429, 200, 429]
    settled(stack)
    assert booked(stack).images == 6


def test_what_a_route_has_left_is_shown(start: Start) -> None:
    """Every limit of a route counts, not those by the minute alone: used up, it is shown as not available."""
    limits = "limits: {images_per_minute: 9, images_per_day: 2, concurrent: 3}"
    route = "main/gpt-image-2:\n    {"
    (stack,) = start(tight("1000").replace(route, f"{route}{limits}, ", 1))
    shown = []
    for _ in range(3):
        shown.append(stack.metrics())
        stack.post("/v1/images/generations", BODY)
    names = [f'image_gateway_route_{what}{{route="main/gpt-image-2"}}' for what in ("available", "images_remaining")]
    assert [[metrics[name] for name in names] for metrics in shown] == [[1, 2], [1, 1], [0, 0]]
    routes = fetch(f"http://127.0.0.1:{stack.admin_port}/admin/routes").json
    shown_routes = [(each["route"], each["available"], each["images_remaining"]) for each in routes[:2]]
    assert shown_routes == [("main/gpt-image-2", False, 0), ("main/flare", True, None)]
    assert [(each["counted"], each["left"]) for each in routes[0]["limits"]] == [
        ("images", 7),
        ("images", 0),
        ("concurrent", 3),
    ]


async def test_requests_in_flight_are_limited_and_room_returns(start: Start) -> None:
    """With a limit of 5 in flight, a crowd of 40 gets 5 through, and each slot is free again afterwards."""
    (stack,) = start(tight("1000", "[{concurrent: 5}]"))
    stack.sandbox.fault("slow", seconds=2, times=5)
    replies = await crowd([Ask(BODY)] * 40, [stack], at_once=40)
    settled(stack)
    kinds = statuses(replies)
    assert set(kinds) <= {200, 429}
    assert kinds[200] >= 5
    assert booked(stack).images == kinds[200]
    again = await crowd([Ask(BODY)] * 5, [stack], at_once=5)
    assert statuses(again) == {200: 5}


def test_a_client_that_leaves_right_behind_its_upload_keeps_no_place(start: Start) -> None:
    """Its body is on its way to the disk then: nothing is held for it, and nobody is told of a shutdown."""
    [stack] = start(ONE_AT_A_TIME)
    image = b"\x89PNG\r\n\x1a\n" + os.urandom(1_500_000)
    form = (
        b'--X\r\nContent-Disposition: form-data; name="prompt"\r\n\r\np\r\n'
        b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        b"%b\r\n--X--\r\n" % image
    )
    head = (
        "POST /v1/images/edits HTTP/1.1\r\nHost: here\r\nContent-Type: multipart/form-data; boundary=X\r\n"
        f"Authorization: Bearer {stack.key()}\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    for _ in range(25):
        with socket.create_connection(("127.0.0.1", stack.port)) as client:
            client.sendall(head.encode() + form)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: stack.metric("in_flight") == 0, 15, "its end")
        assert stack.post("/v1/images/generations", BODY).status == 200
    ended = [json.loads(line) for line in stack.log.read_text().splitlines() if '"operation"' in line]
    left = [line for line in ended if line.get("status") == 499]
    assert all(line["client_gone"] for line in left)
    assert not [line for line in ended if line.get("status") == 503]
