"""Faults of our own in the middle of a request: the hold ends all the same.

No provider and no sandbox can bring these about, so one written for it stands behind the port; the ledger is real.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.caller import Caller
from gateway.domain.errors import InternalError, InvalidRequest
from gateway.domain.job import Operation
from gateway.domain.policy import Policy, Project
from gateway.domain.settlement import Reading
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store, store_url
from gateway.lifecycle import Lifecycle, Setup
from gateway.observe.fanout import Observers
from gateway.ports import Body, Headers, Inbound
from gateway.ports.provider import Answer, Call
from gateway.routing.explanation import record
from tests.builders import TODAY, policy, route
from tests.rig import rigged
from tests.steps.test_classify import FieldsOnly

BUDGET = Budget(Scope(), Window.TOTAL, 10_000_000)
REQUEST = "req_fault"


@dataclass
class Unreadable:
    """An answer that can be passed on and then cannot be read."""

    status: int = 200
    headers: Headers = ()
    content_length: int | None = None
    event_stream: bool = False
    upstream_request_id: str | None = None
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    closed: bool = field(default=False)

    def at_once(self) -> bytes | None:
        """It comes in a chunk."""
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """One chunk."""
        yield b"{}"

    def reading(self) -> Reading:
        """A fault of ours."""
        raise RuntimeError("reading failed")

    async def aclose(self) -> None:
        """Take note."""
        self.closed = True


@dataclass
class Faulty:
    """A provider that fails in ways that no provider is known to fail in."""

    in_send: bool
    answer: Unreadable = field(default_factory=Unreadable)

    async def send(self, call: Call) -> Answer:
        """Fail now, or later."""
        if self.in_send:
            raise RuntimeError(f"sending to {call.route.name} failed")
        return self.answer

    async def aclose(self) -> None:
        """Nothing to close."""


class Anybody:
    """A keyring that knows everybody as one caller."""

    async def find(self, key: str) -> Caller | None:
        """The caller, whatever the key."""
        return Caller(f"key_{len(key)}", "team")

    def mark(self, key: str) -> bytes:
        """The key as bytes."""
        return key.encode()

    def known(self, mark: bytes) -> Caller | None:
        """Nobody is remembered."""

    async def lives(self, key_id: str) -> bool:
        """Every key does."""
        return bool(key_id)


def rules() -> Policy:
    """One route, one budget."""
    return policy(route("main"), project=Project("team", ("draft",), "draft", budgets=(BUDGET,)))


@pytest.mark.parametrize("in_send", [True, False], ids=["while sending", "after the answer"])
async def test_a_fault_of_ours_ends_the_hold_as_presumed_spent(tmp_path: Path, *, in_send: bool) -> None:
    """Nobody knows what was billed, so the worst case is booked; the client gets a 500 and nothing stays held."""
    body = FieldsOnly({"prompt": "a cat", "size": "1024x1024", "quality": "low"})

    async def read_body() -> Body:
        return body

    with store_url("embedded:", tmp_path) as url:
        store = Store(url)
        ledger = RedisLedger(store)
        provider = Faulty(in_send)
        lifecycle = Lifecycle(
            current=lambda: Setup(rules(), {"acme": provider}),
            keyring=Anybody(),
            ledger=ledger,
            settlements=DeferredSettlements(ledger),
            observer=Observers([]),
            today=lambda: TODAY,
        )
        headers = {"authorization": "Bearer anything"}
        inbound = Inbound(REQUEST, Operation.GENERATE, None, headers, None, read_body, time.monotonic())
        with pytest.raises(InternalError, match=REQUEST):
            await lifecycle.handle(inbound)
        await lifecycle.drain(5)
        [balance] = await ledger.balances([BUDGET])
        kept = await ledger.request(REQUEST)
        await store.aclose()

    assert kept is not None
    last = record({**kept})["attempts"]
    assert isinstance(last, list)
    assert [(attempt["state"], attempt["reason"]) for attempt in last] == [("presumed", "interrupted")]
    assert (balance.held, balance.used > 0) == (0, True)
    assert body.closed
    assert provider.answer.closed is not in_send


async def test_who_is_refused_for_another_header_is_logged_with_its_tags(tmp_path: Path) -> None:
    """What can be read of a request tells whoever looks into it whose it was."""
    async with rigged(tmp_path) as rig:
        with pytest.raises(InvalidRequest, match="Idempotency-Key"):
            await rig.ask(rig.inbound("x" * 300, x_gateway_tags="team=web"))
        [event] = rig.events.finished()
        assert (event.status, event.tags) == (400, {"team": "web"})
