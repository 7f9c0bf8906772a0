"""Exchange: what is known of a request ends in the fields of the events that tell of it."""

from __future__ import annotations

import time

from gateway.domain.caller import Caller
from gateway.domain.job import Operation, Wishes
from gateway.domain.policy import JobType
from gateway.domain.price import Price
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Settlement, Usage
from gateway.domain.trial import Arm
from gateway.observe.event import HoldEnded, RequestFinished
from gateway.ports import Body, Inbound
from gateway.request.exchange import Admitted, Exchange
from gateway.steps.rank import Ranked
from tests import builders
from tests.providers.calls import MemoryBody

ROUTE = builders.route("main")
POLICY = builders.policy(ROUTE)
KIND = JobType("banner", (ROUTE,))
JOB = builders.job(operation=Operation.EDIT, n=3, size="auto", quality="high")
PRICE = Price(builders.TODAY, "source", free=True)
QUOTE = Quote(ROUTE, JOB, {}, Views(11, 12, 13), PRICE, PRICE)
ARM = Arm("trial", "control")


async def nothing() -> Body:
    """Stand for a body that nobody reads."""
    raise NotImplementedError


def exchange_of(**more: object) -> Exchange:
    """A request of which nearly all is known."""
    inbound = Inbound("req_9", Operation.EDIT, None, {}, nothing, time.monotonic() - 100)
    exchange = Exchange(inbound, Wishes(tags={"a": "b"}), Caller("key_9", "team"), JOB, KIND, arm=ARM, quote=QUOTE)
    exchange.attempts, exchange.images, exchange.waited = 2, 4, 1.5
    exchange.upstream_seconds, exchange.client_seconds = 60.0, 30.0
    exchange.cost, exchange.source = Views(21, 22, 23), CostSource.USAGE
    for name, value in more.items():
        setattr(exchange, name, value)
    return exchange


def test_a_request_that_ended_is_told_with_all_that_is_known_of_it() -> None:
    """Each value stands in its own field."""
    told = exchange_of().finished(429, code="broken", client_gone=True, bytes_out=7)
    assert 100 <= told.duration < 110
    assert 10 <= told.overhead < 20
    assert told == RequestFinished(
        request_id="req_9",
        operation="edit",
        status=429,
        duration=told.duration,
        overhead=told.overhead,
        project="team",
        key_id="key_9",
        job_type="banner",
        route="main",
        attempts=2,
        n=3,
        size="auto",
        quality="high",
        images=4,
        estimate=12,
        cost=22,
        source="usage",
        code="broken",
        client_gone=True,
        bytes_out=7,
        replayed=False,
        tags={"a": "b"},
        experiment="trial",
        arm="control",
        waited=1.5,
        began="edit",
    )


def test_what_is_not_known_of_a_request_is_left_as_it_is() -> None:
    """One that came to nothing has no names; a repeated or cached one says so and is no trial."""
    inbound = Inbound("req_9", Operation.EDIT, None, {}, nothing, time.monotonic())
    told = Exchange(inbound).finished(400)
    assert told == RequestFinished("req_9", "edit", 400, told.duration, told.overhead, began="edit")
    told = exchange_of(replayed=True, cached=True, upstream_seconds=1000.0).finished(200)
    assert (told.replayed, told.source, told.experiment, told.arm, told.overhead) == (True, "cache", "none", "none", 0)


def test_a_hold_that_ended_is_told_with_all_that_is_known_of_it() -> None:
    """Each value stands in its own field; the quality is what the provider said it made."""
    exchange, project = exchange_of(), POLICY.projects["team"]
    body = MemoryBody({})
    ranked = Ranked([QUOTE], (), ARM)
    admitted = Admitted(exchange, Caller("key_9", "team"), project, JOB, KIND, POLICY, ranked, body, builders.TODAY)
    usage = Usage(1, 2, 3, 4, 5, 6)
    settlement = Settlement("req_9", 2, Views(21, 22, 23), CostSource.USAGE, 4, usage, {"quality": "low"})
    assert admitted.hold_ended(QUOTE, settlement) == HoldEnded(
        project="team",
        job_type="banner",
        route="main",
        quality="low",
        cost=Views(21, 22, 23),
        estimate=Views(11, 12, 13),
        source=CostSource.USAGE,
        images=4,
        usage=usage,
        experiment="trial",
        arm="control",
    )
