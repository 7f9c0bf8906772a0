"""The ledger, the metrics and the sandbox's bill as comparable integers; and a crowd of clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

from gateway.sandbox.client import Sandbox
from tests.e2e.stack import Reply, Stack, fetch, wait_until

NANO = 10**9
SETTLING_SECONDS = 30


def nano(usd: str) -> int:
    """A decimal string of USD as nano-USD, exactly."""
    exact = Decimal(usd) * NANO
    assert exact == int(exact), usd
    return int(exact)


@dataclass(frozen=True)
class Totals:
    """What a ledger has booked, in nano-USD."""

    requests: int
    images: int
    route: int
    internal: int
    unconfirmed: int

    def __sub__(self, before: Totals) -> Totals:
        return Totals(
            self.requests - before.requests,
            self.images - before.images,
            self.route - before.route,
            self.internal - before.internal,
            self.unconfirmed - before.unconfirmed,
        )


def totals_of(row: Mapping[str, Any]) -> Totals:
    """A row of a spend report as integers."""
    return Totals(
        requests=row["requests"],
        images=row["images"],
        route=nano(row["route_usd"]),
        internal=nano(row["internal_usd"]),
        unconfirmed=nano(row["unconfirmed_usd"]),
    )


def admin(stack: Stack, path: str) -> Any:
    """What the admin plane tells."""
    reply = fetch(f"http://127.0.0.1:{stack.admin_port}/admin/{path}")
    assert reply.status == 200, reply.body
    return reply.json


def booked(stack: Stack) -> Totals:
    """What the ledger has booked so far."""
    return totals_of(admin(stack, "spend?window=total&by=project")["total"])


def reported(stack: Stack, by: str = "project") -> tuple[list[dict[str, Any]], Totals]:
    """What `image-gateway spend` prints: rows and their sum."""
    made = stack.command("spend", "--format", "json", "--window", "total", "--by", by)
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    return report["rows"], totals_of(report["total"])


def billed(sandbox: Sandbox) -> int:
    """What the providers charge for, in nano-USD."""
    return int(sandbox.bill()["total_nano_usd"])


def nothing_held(stack: Stack) -> bool:
    """Whether no budget holds money."""
    budgets = admin(stack, "budgets")
    assert budgets
    return all(nano(budget["held_usd"]) == 0 for budget in budgets)


def settled(stack: Stack) -> None:
    """Wait until no request is in flight and nothing is held."""
    wait_until(lambda: stack.metric("in_flight") == 0 and nothing_held(stack), SETTLING_SECONDS, "an empty gateway")


def upstream_id(sandbox: Sandbox, index: int = -1) -> str:
    """The gateway's id of a request, as it told the provider."""
    return str(dict(sandbox.requests()[index]["headers"])["x-client-request-id"])


@dataclass(frozen=True)
class Ask:
    """One request of a crowd."""

    body: Mapping[str, Any]
    project: str = "team"
    path: str = "/v1/images/generations"
    files: Sequence[tuple[str, bytes]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


async def crowd(asks: Sequence[Ask], stacks: Sequence[Stack], *, at_once: int) -> list[Reply]:
    """Send them, round robin over the gateways, each answer read to its end; answers in the order of `asks`."""
    keys = {ask.project: stacks[0].key(ask.project) for ask in asks}
    gate = asyncio.Semaphore(at_once)
    timeout = aiohttp.ClientTimeout(total=100)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def one(number: int, ask: Ask) -> Reply:
            url = f"http://127.0.0.1:{stacks[number % len(stacks)].port}{ask.path}"
            content: dict[str, Any] = {"data": form(ask)} if ask.files else {"json": dict(ask.body)}
            async with gate:
                headers = {"authorization": f"Bearer {keys[ask.project]}", **ask.headers}
                async with session.post(url, headers=headers, **content) as answer:
                    lower = {name.lower(): value for name, value in answer.headers.items()}
                    return Reply(answer.status, lower, await answer.read())

        return list(await asyncio.gather(*(one(number, ask) for number, ask in enumerate(asks))))


def form(ask: Ask) -> aiohttp.FormData:
    """The request as a multipart form: images first, then the fields."""
    data = aiohttp.FormData()
    for name, image in ask.files:
        data.add_field(name, image, filename=f"{name.strip('[]')}.png", content_type="image/png")
    for name, value in ask.body.items():
        data.add_field(name, json.dumps(value) if isinstance(value, bool) else str(value))
    return data
