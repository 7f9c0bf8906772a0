"""The ledger says what the provider's bill says, to the nano-dollar, and every other figure says the same."""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import NANO, Ask, Totals, admin, billed, booked, crowd, nano, reported, settled, upstream_id
from tests.e2e.policies import PROVIDERS, lasting
from tests.e2e.stack import Stack, running_gateway, wait_until

MANY_MODELS = (
    PROVIDERS % {"timeout": "60s"}
    + lasting("gpt-image-1.5", "gpt-image-1-mini")
    + """
routes:
  main/two: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  main/flare: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}
  main/old: {provider: main, model: gpt-image-1.5, upstream_model: gpt-image-1.5}
  main/mini: {provider: main, model: gpt-image-1-mini, upstream_model: gpt-image-1-mini}
job_types:
  draft: {routes: [main/two, main/flare, main/old, main/mini]}
  poster: {match: {quality: high}, routes: [main/two, main/flare, main/old, main/mini]}
projects:
  team:
    job_types: [draft, poster]
    default_job_type: draft
    client_model: honour
    budgets: [{window: total, limit: "9000"}, {window: total, limit: "8000", job_type: poster}]
    chargeback: {multiplier: "1.15"}
  other:
    job_types: [draft]
    client_model: honour
    budgets: [{window: total, limit: "9000", view: internal}]
    chargeback: {multiplier: "1.07"}
  third: {job_types: [draft], client_model: honour}
budgets: [{window: total, limit: "9999"}]
"""
)

LEGACY_SIZES = ("1024x1024", "1024x1536", "1536x1024")
MODELS: dict[str, tuple[str, ...]] = {
    "gpt-image-2": (*LEGACY_SIZES, "1536x864", "2048x1152"),
    "gpt-image-2.5-flare": (*LEGACY_SIZES, "1280x720"),
    "gpt-image-1.5": LEGACY_SIZES,
    "gpt-image-1-mini": LEGACY_SIZES,
}


def picture(width: int, height: int, mode: str = "RGB") -> bytes:
    """A plain PNG."""
    out = io.BytesIO()
    Image.new(mode, (width, height), (120, 40, 200)).save(out, "PNG")
    return out.getvalue()


PICTURES = tuple(picture(*size) for size in ((64, 64), (640, 480), (1024, 1024), (300, 900)))


def mixed(count: int, seed: int) -> list[Ask]:
    """Requests of every kind; the same seed gives the same ones."""
    dice = random.Random(seed)
    return [_any(dice, number) for number in range(count)]


def _any(dice: random.Random, number: int) -> Ask:
    model = dice.choice(list(MODELS))
    body: dict[str, Any] = {"model": model, "prompt": f"number {number} " + "wörter " * dice.randrange(20)}
    body |= {"n": n} if (n := dice.choice([0, 1, 1, 1, 2, 3, 4])) else {}
    body |= {"size": size} if (size := dice.choice(["", "auto", *MODELS[model]])) else {}
    body |= {"quality": quality} if (quality := dice.choice(["", "auto", "low", "low", "medium", "high"])) else {}
    body |= {"output_format": form} if (form := dice.choice(["", "jpeg", "webp"])) else {}
    if dice.random() < 0.3:
        body |= {"stream": True} | ({"partial_images": partial} if (partial := dice.randrange(4)) else {})
    project = dice.choice(["team", "team", "other", "third"])
    kind = dice.choice(["generate", "generate", "form", "json"])
    if kind == "generate":
        return Ask(body, project)
    images = dice.sample(PICTURES, dice.randrange(1, 4))
    if kind == "form":
        mask = [("mask", picture(64, 64, "RGBA"))] if images[0] == PICTURES[0] else []
        return Ask(body, project, "/v1/images/edits", [*(("image[]", image) for image in images), *mask])
    urls = [{"image_url": f"data:image/png;base64,{base64.b64encode(image).decode()}"} for image in images]
    return Ask({**body, "images": urls}, project, "/v1/images/edits")


@pytest.fixture
def books(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with empty books and several models and projects."""
    with running_gateway(tmp_path_factory.mktemp("books"), MANY_MODELS, sandbox) as running:
        yield running


def check_books(stack: Stack, expected_images: int) -> Totals:
    """Compare ledger, bill, metrics and budgets; returns what the ledger has."""
    settled(stack)
    lines = stack.sandbox.bill()["lines"]
    rows, total = reported(stack)
    assert total.route == billed(stack.sandbox)
    assert total.images == sum(line["images"] for line in lines) == expected_images
    assert total.requests == len(lines)
    assert total.unconfirmed == 0
    assert booked(stack) == total
    for view, amount in (("route", total.route), ("internal", total.internal)):
        assert round(stack.metric("spend_usd_total", view=view) * NANO) == amount
    assert stack.metric("images_total") == expected_images
    for row in rows:
        assert round(stack.metric("spend_usd_total", view="route", project=row["project"]) * NANO) == nano(
            row["route_usd"]
        )
    _check_budgets(stack, [int(line["nano_usd"]) for line in lines])
    return total


def _check_budgets(stack: Stack, bill: list[int]) -> None:
    """Every budget has used what the requests under it cost, each rounded up to a micro-USD."""
    budgets = {budget["scope"]: nano(budget["used_usd"]) // 1000 for budget in admin(stack, "budgets")}
    assert budgets["everything"] == sum(-(-amount // 1000) for amount in bill)
    by_job_type, _ = reported(stack, "project,job_type")
    for scope, wanted in (
        ("project:team", {"project": "team"}),
        ("project:team+job_type:poster", {"project": "team", "job_type": "poster"}),
        ("project:other", {"project": "other"}),
    ):
        rows = [row for row in by_job_type if wanted.items() <= row.items()]
        view = "internal_usd" if scope == "project:other" else "route_usd"
        spent, requests = sum(nano(row[view]) for row in rows), sum(row["requests"] for row in rows)
        assert spent <= budgets[scope] * 1000 < spent + 1000 * max(requests, 1), scope


async def run_mixed(stack: Stack, count: int, seed: int) -> Totals:
    """Send mixed requests, 20 at once, and compare the books afterwards."""
    asks = mixed(count, seed)
    replies = await crowd(asks, [stack], at_once=20)
    assert {reply.status for reply in replies} == {200}, [r.body[:300] for r in replies if r.status != 200][:3]
    return check_books(stack, sum(ask.body.get("n", 1) for ask in asks))


async def test_eighty_mixed_requests_cost_in_the_ledger_what_the_bill_says(books: Stack) -> None:
    """Ledger, bill, metrics and budgets agree exactly after 80 requests of every kind; nothing stays held."""
    total = await run_mixed(books, 80, seed=80)
    assert total.requests == 80


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_five_hundred_mixed_requests_cost_in_the_ledger_what_the_bill_says(books: Stack, seed: int) -> None:
    """Ledger, bill, metrics and budgets agree exactly after 500 requests of every kind; nothing stays held."""
    total = await run_mixed(books, 500, seed)
    assert total.requests == 500


async def test_each_request_tells_its_own_cost(books: Stack) -> None:
    """Header and record of each request name its bill line's amount; no hold was too small."""
    asks = mixed(12, seed=3)
    replies = await crowd(asks, [books], at_once=4)
    settled(books)
    lines = {line["request"]: line["nano_usd"] for line in books.sandbox.bill()["lines"]}
    costs = {
        dict(arrived["headers"])["x-client-request-id"]: lines[arrived["request"]]
        for arrived in books.sandbox.requests()
    }
    for ask, reply in zip(asks, replies, strict=True):
        request_id = reply.headers["x-request-id"]
        record = books.record(request_id, project=ask.project)
        assert nano(record["cost"]["route"]) == costs[request_id]
        assert (record["state"], record["cost_source"]) == ("settled", "usage")
        assert nano(record["cost_estimate"]["route"]) >= costs[request_id]
        if "x-gateway-cost" in reply.headers:
            assert nano(reply.headers["x-gateway-cost"]) == costs[request_id]


async def test_refused_requests_and_dry_runs_cost_nothing(books: Stack) -> None:
    """A bad request, a moderated one and a dry run leave ledger, bill and budgets at zero."""
    bad = books.post("/v1/images/generations", {"prompt": "x", "n": 0})
    moderated = books.post("/v1/images/generations", {"prompt": "blocked-by-moderation"})
    dry = books.post("/v1/images/generations", {"prompt": "x"}, headers={"x-gateway-dry-run": "true"})
    assert [bad.status, moderated.status, dry.status] == [400, 400, 200]
    settled(books)
    assert booked(books).route == billed(books.sandbox) == 0
    assert books.metric("spend_usd_total") == books.metric("images_total") == 0


async def test_usage_settles_a_hold_of_two_dollars_and_eleven(books: Stack) -> None:
    """gpt-image-2, high, 1024x1024, n=10 holds $2.11 or more while it runs and settles at what the usage says."""
    books.sandbox.fault("slow", seconds=3)
    body = {"model": "gpt-image-2", "prompt": "a lighthouse", "quality": "high", "size": "1024x1024", "n": 10}
    running = asyncio.create_task(asyncio.to_thread(books.post, "/v1/images/generations", body))
    await asyncio.to_thread(wait_until, lambda: books.metric("budget_held_usd", scope="project:team") >= 2.11)
    record = books.record(upstream_id(books.sandbox))
    assert record["state"] == "sent"
    assert nano(record["cost_estimate"]["route"]) >= 2_110_000_000
    reply = await running
    assert reply.status == 200
    record = books.record(reply.headers["x-request-id"])
    usage = reply.json["usage"]
    by_usage = usage["input_tokens"] * 5_000 + usage["output_tokens"] * 30_000
    assert nano(record["cost"]["route"]) == by_usage == billed(books.sandbox) == booked(books).route
    assert 2_100_000_000 < by_usage <= nano(record["cost_estimate"]["route"])
    settled(books)
