"""Two gateways under one address: what a provider calls at one of them wakes the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.store import store_url
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.stack import Stack, running_gateway
from tests.e2e.task_policy import POLICY
from tests.ports import free_port

SLOW = ("slow-evolink", "slow-fal", "slow-replicate", "slow-bfl")
"""Job types whose work is looked at once an hour, so that only a callback ends the wait."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[tuple[Stack, Stack]]:
    """Two gateways on one store; both tell providers the second one's address."""
    home, port = tmp_path_factory.mktemp("pair"), free_port()
    public = ("--public-url", f"http://127.0.0.1:{port}")
    with store_url("embedded:", _made(home / "store")) as store, contextlib.ExitStack() as started:
        environ = {"IMAGE_GATEWAY_STORE": store, "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4}
        gateways = [
            started.enter_context(
                running_gateway(_made(home / name), POLICY, sandbox, *public, environ=environ, port=own)
            )
            for name, own in (("first", None), ("second", port))
        ]
        yield gateways[0], gateways[1]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def test_a_call_back_at_one_gateway_wakes_the_other(pair: tuple[Stack, Stack], sandbox: Sandbox) -> None:
    """Each provider's callback, by its own signature, arrives at the second and ends the wait at the first."""
    first, _ = pair
    body = {"prompt": "a cat", "size": "1024x1024"}
    replies = await crowd([Ask({**body, "model": f"job:{name}"}) for name in SLOW], [first], at_once=len(SLOW))

    assert {reply.status for reply in replies} == {200}
    settled(first)
    spent = booked(first)
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), len(SLOW), 0)


async def test_repeated_call_backs_change_nothing(pair: tuple[Stack, Stack], sandbox: Sandbox) -> None:
    """Work that the second is told of twice is answered and paid for once."""
    first, _ = pair
    before = booked(first)
    for provider in ("evolink", "fal", "replicate", "bfl"):
        sandbox.fault("callback_twice", provider=provider)
    body = {"prompt": "a cat", "size": "1024x1024"}
    replies = await crowd([Ask({**body, "model": f"job:{name}"}) for name in SLOW], [first], at_once=len(SLOW))

    assert {reply.status for reply in replies} == {200}
    settled(first)
    spent = booked(first) - before
    assert (spent.route, spent.images) == (billed(sandbox), len(SLOW))
