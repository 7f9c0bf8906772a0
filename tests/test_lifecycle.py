"""Faults of our own in the middle of a request: the hold ends all the same.

No provider and no sandbox can bring these about, so one written for it stands behind the port; the ledger is real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.domain.errors import InternalError, InvalidRequest
from gateway.domain.policy import Policy, Project
from gateway.domain.settlement import Reading
from gateway.ports import Body, Headers
from gateway.ports.provider import Answer, Call
from gateway.routing.explanation import record
from tests.builders import policy, route
from tests.rig import BUDGET, rigged
from tests.steps.test_classify import FieldsOnly


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


def rules() -> Policy:
    """One route, one budget."""
    return policy(route("main"), project=Project("team", ("draft",), "draft", budgets=(BUDGET,)))


@pytest.mark.parametrize("in_send", [True, False], ids=["while sending", "after the answer"])
async def test_a_fault_of_ours_ends_the_hold_as_presumed_spent(tmp_path: Path, *, in_send: bool) -> None:
    """Nobody knows what was billed, so the worst case is booked; the client gets a 500 and nothing stays held."""
    body = FieldsOnly({"prompt": "a cat", "size": "1024x1024", "quality": "low"})

    async def read_body() -> Body:
        return body

    provider = Faulty(in_send)
    async with rigged(tmp_path, rules()) as rig:
        rig.others["acme"] = provider
        inbound = replace(rig.inbound(), read_body=read_body)
        with pytest.raises(InternalError, match=inbound.request_id):
            await rig.handle(inbound)
        await rig.lifecycle.drain(5)
        used, still_held = await rig.spent()
        kept = await rig.ledger.request(inbound.request_id)

    assert kept is not None
    last = record({**kept})["attempts"]
    assert isinstance(last, list)
    assert [(attempt["state"], attempt["reason"]) for attempt in last] == [("presumed", "interrupted")]
    assert (still_held, used > 0) == (0, True)
    assert body.closed
    assert provider.answer.closed is not in_send


async def test_who_is_refused_for_another_header_is_logged_with_its_tags(tmp_path: Path) -> None:
    """What can be read of a request tells whoever looks into it whose it was."""
    async with rigged(tmp_path) as rig:
        with pytest.raises(InvalidRequest, match="Idempotency-Key"):
            await rig.ask(rig.inbound("x" * 300, x_gateway_tags="team=web"))
        [event] = rig.events.finished()
        assert (event.status, event.tags) == (400, {"team": "web"})
