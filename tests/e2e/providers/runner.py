"""The runner: asks in every way there is, and compares what came, what is booked, counted and billed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import NANO, Totals, billed, booked, nano, settled
from tests.e2e.clients import picture
from tests.e2e.providers.case import Provider, Slip, Sold
from tests.e2e.stack import Stack

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
PICTURES = tuple(picture(*size, seed=seed) for seed, size in enumerate([(64, 64), (640, 480), (300, 800)]))
_ENDED = ("completed", "failed", "cancelled")
_POLL_SECONDS = 0.2
_PATIENCE = 90


@dataclass(frozen=True)
class Wish:
    """One request. `how` is plain, stream or task; `files` are input images, sent as a form or, `inline`, as JSON."""

    body: Mapping[str, Any]
    job_type: str
    sold: Sold
    how: str = "plain"
    files: Sequence[bytes] = ()
    mask: bool = False
    inline: bool = False
    slip: Slip | None = None

    @property
    def images(self) -> int:
        """How many images are to come."""
        return int(self.body.get("n", 1)) - (self.slip.fewer if self.slip else 0)


@dataclass(frozen=True)
class Got:
    """What came of a wish: the status, an error or images by hash, and the gateway's id of the request."""

    status: int
    error: Mapping[str, Any] | None
    images: Sequence[str]
    request: str
    headers: Mapping[str, str]


def mixed(provider: Provider, count: int, seed: int) -> list[Wish]:
    """So many requests of every kind that the provider can do; the same seed gives the same ones."""
    dice = random.Random(seed)
    every = -(-count // (3 * len(provider.slips))) if provider.slips else 0
    wishes = []
    for number in range(count):
        slip = provider.slips[number // every % len(provider.slips)] if every and number % every == 0 else None
        name = slip.only if slip and slip.only else list(provider.sold)[number % len(provider.sold)]
        prompt = f"{provider.name} number {number}."
        wishes.append(_any(dice, prompt, provider.job_type(name), provider.sold[name], slip))
    return wishes


def _any(dice: random.Random, prompt: str, job_type: str, sold: Sold, slip: Slip | None) -> Wish:
    body: dict[str, Any] = {"prompt": prompt + " wörter" * dice.randrange(12)}
    for field, values in sold.fields.items():
        value = dice.choice(values)
        body |= {} if value is None else {field: value}
    if slip:  # one image: where each is a call of its own, the others would come
        body["n"] = slip.fewer + 1
    edit = not sold.generates or (sold.edits > 0 and dice.random() < 0.4)
    files = dice.sample(PICTURES, min(dice.randint(1, sold.edits), len(PICTURES))) if edit else []
    mask = edit and (sold.required_mask or (sold.masks and dice.random() < 0.3))
    how = dice.choice(["plain", "plain", "task", "stream"]) if slip is None else "plain"
    if how == "stream":
        body["stream"] = True
    return Wish(
        body, job_type, sold, how, [PICTURES[0]] if mask else files, mask, dice.random() < 0.5 and not mask, slip
    )


async def ask_all(stack: Stack, wishes: Sequence[Wish], *, at_once: int = 6) -> list[Got]:
    """Ask for all of them; the answers in the same order, each read to its end and a task's waited for."""
    key, gate = stack.key(), asyncio.Semaphore(at_once)
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{stack.port}", timeout=timeout, headers=headers) as session:

        async def one(wish: Wish) -> Got:
            async with gate:
                return await _ask(session, wish)

        return list(await asyncio.gather(*map(one, wishes)))


async def _ask(session: aiohttp.ClientSession, wish: Wish) -> Got:
    headers = {"x-gateway-job-type": wish.job_type, "x-gateway-lane": "testing"}
    if wish.how == "task":
        headers["prefer"] = "respond-async"
    path = EDIT if wish.files else GENERATE
    async with session.post(path, headers=headers, **_content(wish)) as answer:
        body, status, told = await answer.read(), answer.status, answer.headers
    request = told.get("x-request-id", "")
    if status == 202:
        return await _task(session, json.loads(body)["id"], request, told)
    if status >= 400:
        return Got(status, json.loads(body)["error"], (), request, told)
    if wish.how == "stream":
        return Got(status, None, _streamed(body), request, told)
    return Got(
        status, None, [_hash(base64.b64decode(item["b64_json"])) for item in json.loads(body)["data"]], request, told
    )


def _content(wish: Wish) -> dict[str, Any]:
    if not wish.files:
        return {"json": dict(wish.body)}
    if wish.inline:
        urls = [{"image_url": f"data:image/png;base64,{base64.b64encode(image).decode()}"} for image in wish.files]
        return {"json": {**wish.body, "images": urls}}
    form = aiohttp.FormData()
    for name, value in wish.body.items():
        form.add_field(name, json.dumps(value) if isinstance(value, bool) else str(value))
    for image in wish.files:
        form.add_field("image[]", image, filename="image.png", content_type="image/png")
    if wish.mask:
        form.add_field("mask", picture(64, 64, mode="RGBA"), filename="mask.png", content_type="image/png")
    return {"data": form}


def _streamed(body: bytes) -> list[str]:
    """The finished images of an event stream."""
    events = [json.loads(line[5:]) for line in body.decode().splitlines() if line.startswith("data:") and "{" in line]
    assert not any("error" in event for event in events), events
    return [_hash(base64.b64decode(event["b64_json"])) for event in events if event["type"].endswith(".completed")]


async def _task(session: aiohttp.ClientSession, task: str, request: str, told: Mapping[str, str]) -> Got:
    """Wait for a task, and fetch its images by their links."""
    while True:
        async with session.get(f"/v1/tasks/{task}") as answer:
            assert answer.status == 200, await answer.text()
            shown = await answer.json()
        if shown["status"] in _ENDED:
            break
        await asyncio.sleep(_POLL_SECONDS)
    if shown["status"] != "completed":
        return Got(400, shown["error"], (), request, told)
    images = []
    for url in shown["results"]:
        async with session.get(url) as answer:
            assert answer.status == 200, await answer.text()
            images.append(_hash(await answer.read()))
    return Got(200, None, images, request, told)


def _hash(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


@dataclass(frozen=True)
class Counted:
    """What ledger and metrics say, to compare with later; `short` are holds that were too small."""

    ledger: Totals
    spend: int
    images: float
    unconfirmed: float
    short: float


def counted(stack: Stack) -> Counted:
    """Wait until nothing is under way or held, and read ledger and metrics."""
    settled(stack)
    spend = round(stack.metric("spend_usd_total", view="route") * NANO)
    ended, enough = (stack.metric("estimate_error_ratio_bucket", le=edge) for edge in ("+Inf", "1.0"))
    images, unconfirmed = stack.metric("images_total"), stack.metric("unconfirmed_total")
    return Counted(booked(stack), spend, images, unconfirmed, ended - enough)


def check_images(sandbox: Sandbox, wishes: Sequence[Wish], answers: Sequence[Got]) -> int:
    """Every answer is as it should be, its images byte for byte the provider's; returns how many images there are."""
    made: dict[str, set[str]] = {}
    for image in sandbox.images():
        if not image["partial"]:
            made.setdefault(image["prompt"], set()).add(image["sha256"])
    for wish, got in zip(wishes, answers, strict=True):
        assert got.status == (wish.slip.status if wish.slip else 200), (got.error, got.status, wish)
        if got.error is None:
            assert len(got.images) == wish.images, (wish, got)
            given = made[wish.body["prompt"]]
            assert set(got.images) <= given if wish.slip else set(got.images) == given, wish
    return sum(len(got.images) for got in answers)


def check_books(sandbox: Sandbox, before: Counted, after: Counted, images: int) -> None:
    """The ledger is the bill to the nano-dollar, metrics are the ledger, all holds sufficed, and nothing is unsure."""
    spent = after.ledger - before.ledger
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)
    assert spent.images == images
    assert after.spend - before.spend == spent.route
    assert after.images - before.images == images
    assert after.unconfirmed == before.unconfirmed
    assert after.short == before.short


def unequal(stack: Stack, sandbox: Sandbox, wishes: Sequence[Wish], answers: Sequence[Got]) -> list[str]:
    """Tell the requests whose cost is not what the provider's lines for them say."""
    lines: dict[str, int] = {}
    for line in sandbox.bill()["lines"]:
        lines[line["request"]] = lines.get(line["request"], 0) + line["nano_usd"]
    told = []
    for wish, got in zip(wishes, answers, strict=True):
        arrived = [
            each for each in sandbox.requests() if wish.body["prompt"] in json.dumps(each["fields"], ensure_ascii=False)
        ]
        bill = sum(lines.get(each["request"], 0) for each in arrived)
        cost = stack.record(got.request).get("cost")
        if cost is not None and nano(cost["route"]) != bill:
            told.append(
                f"{cost['route']} for {bill} n$: {got.status} {wish.job_type} {wish.body} {wish.how} {wish.slip}"
            )
    return told


def prove(stack: Stack, sandbox: Sandbox, provider: Provider, count: int, seed: int = 1) -> None:
    """Ask so many mixed requests of a provider and compare everything."""
    wishes = mixed(provider, count, seed)
    for wish in wishes:
        if wish.slip:
            match = {"prompt_contains": wish.body["prompt"]}
            sandbox.fault(wish.slip.fault, provider=provider.persona, match=match, **wish.slip.parameters)
    before = counted(stack)
    answers = asyncio.run(ask_all(stack, wishes))
    after = counted(stack)
    images = check_images(sandbox, wishes, answers)
    if (after.ledger - before.ledger).route != billed(sandbox):
        raise AssertionError("\n".join(unequal(stack, sandbox, wishes, answers)))
    check_books(sandbox, before, after, images)
