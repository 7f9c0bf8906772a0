"""A crowd of duplicates over several gateways: one upstream call a key, and the same answer for everybody."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, running_gateway

PATH = "/v1/images/generations"
GATEWAYS = 3
RAMP_SECONDS = 2.0
"""How long the provider works: every duplicate of a key is under way before the first answer is there."""


class Got(NamedTuple):
    """What one client got."""

    status: int
    digest: bytes
    request_id: str
    replayed: bool


@contextlib.contextmanager
def running_gateways(directory: Path, policy: str, sandbox: Sandbox, count: int) -> Iterator[list[Stack]]:
    """Gateways of their own on one store and one disk."""
    with contextlib.ExitStack() as all_of_them:
        stacks: list[Stack] = []
        for number in range(count):
            own = directory / f"gateway{number}"
            own.mkdir()
            environ = {"IMAGE_GATEWAY_DATA": str(directory / "data")}
            stacks.append(all_of_them.enter_context(running_gateway(own, policy, sandbox, environ=environ)))
            stacks[number].keys["team"] = stacks[0].key()
        yield stacks


async def duplicates(
    session: aiohttp.ClientSession, stacks: Sequence[Stack], body: Mapping[str, Any], key: str, count: int
) -> list[Got]:
    """Send one request many times at once, round robin over the gateways; every answer is read to its end."""

    async def one(number: int) -> Got:
        url = f"http://127.0.0.1:{stacks[number % len(stacks)].port}{PATH}"
        async with session.post(url, json=dict(body), headers={"Idempotency-Key": key}) as answer:
            digest = hashlib.sha256()
            async for chunk in answer.content.iter_any():
                digest.update(chunk)
            headers = answer.headers
            return Got(answer.status, digest.digest(), headers["x-request-id"], "idempotent-replayed" in headers)

    return list(await asyncio.gather(*(one(number) for number in range(count))))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("keys", "times"), [(5, 300), (100, 1000)])
async def test_a_hundred_keys_a_thousand_times_each(tmp_path: Path, sandbox: Sandbox, keys: int, times: int) -> None:
    """Over three gateways: as many upstream calls and ledger entries as keys, one answer a key; half are streams."""
    connector = aiohttp.TCPConnector(limit=0)
    with running_gateways(tmp_path, tight("10000", timeout="120s"), sandbox, GATEWAYS) as stacks:
        sandbox.fault("slow", seconds=RAMP_SECONDS, times=None)
        headers = {"authorization": f"Bearer {stacks[0].key()}"}
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
            for number in range(keys):
                body = {"prompt": f"picture {number}", "size": "1024x1024", "quality": "low", "stream": number % 2 == 1}
                got = await duplicates(session, stacks, body, f"key-{number}", times)
                assert Counter(each.status for each in got) == {200: times}
                assert len({(each.digest, each.request_id) for each in got}) == 1
                assert sum(each.replayed for each in got) == times - 1
                assert len(sandbox.requests()) == number + 1
        await asyncio.to_thread(settled, stacks[0])
        total = booked(stacks[0])
        assert (total.requests, total.route, total.unconfirmed) == (keys, billed(sandbox), 0)
