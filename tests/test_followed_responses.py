"""Responses whose work goes on: what they cost is booked once, and told of once."""

from __future__ import annotations

from pathlib import Path

from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.responses import RedisResponses
from gateway.observe.event import HoldEnded, UpstreamFailed
from gateway.ports.responses import Remembered
from gateway.providers.passthrough import AccountPassthrough
from gateway.responses.following import Follower, _Following
from tests.ledger.rules import budget, candidate, hold
from tests.rig import Rig, rigged

WORST = [70_000, 70_000, 70_000]


def follower(rig: Rig) -> Follower:
    """What follows responses in one process, whose policy has their account no more."""
    responses = RedisResponses(rig.store)
    return Follower(responses, AccountPassthrough({}), DeferredSettlements(rig.ledger), rig.events, lambda: rig.rules)


async def test_two_that_follow_the_same_response_tell_of_its_cost_once(tmp_path: Path) -> None:
    """One that was believed gone comes back: the second settlement changes nothing, and no metric counts it."""
    async with rigged(tmp_path) as rig:
        await hold(rig.ledger, "r", candidate((budget(10**9), 70), worst=WORST[0]))
        terms = {"attempt": 1, "route": "gone", "model": "m", "job": [1, "auto", "low"], "worst": WORST, "since": 0.0}
        terms["upstream_request_id"] = "theirs"
        response = Remembered("resp_1", "team", "acme", "draft", "r", terms)
        for each in (follower(rig), follower(rig)):
            await each.responses.remember(response)
            each.follow(response)
            await each._see_to(_Following(response, 0.0))
        [ended] = [event for event in rig.events.seen if isinstance(event, HoldEnded)]
        record = await rig.ledger.request("r")
        [balance] = await rig.ledger.balances([budget(10**9)])
    assert (ended.cost.route, balance.used, balance.held) == (70_000, 70, 0)
    assert "theirs" in str(record), "by which an invoice names it"
    [failed] = [event for event in rig.events.seen if isinstance(event, UpstreamFailed)]
    assert (failed.route, failed.reason) == ("gone", "lost"), "once too"
