"""Holds given back by a guess: the store, come back older, knew of no call. Whoever made the call books it anyhow."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.domain.reconciling import Terms
from gateway.domain.settlement import CostSource
from gateway.ledger.audit import audit
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.observe.event import Event, HoldEnded
from gateway.observe.hold_ends import tell_hold
from gateway.reporting.reconciliation import booked_at
from tests.ledger.older import copy, empty, resynced
from tests.ledger.rules import settlement
from tests.ledger.test_lower_presumptions import (
    COST,
    DONE,
    FIRST,
    HELD,
    LATE,
    RULE,
    SAME,
    Books,
    books,
    held,
    lapsed,
    presume,
)
from tests.observe.samples import JOB_TYPE, PROJECT, QUALITY, ROUTE, value
from tests.observe.scraped import scraped_after

GUESSES = pytest.mark.parametrize("reason", ["cancelled", "not_begun"])
BOOKED = Books(COST // 1000, 0, COST, 0, "settled")


@GUESSES
async def test_a_cost_of_a_call_that_was_taken_for_unsent_is_booked_once(
    ledger: RedisLedger, store: Store, realm: str, reason: str
) -> None:
    """It counts as the request it is, and repeats change nothing."""
    await held(ledger)
    assert await ledger.void("r", 1, reason) is DONE
    for _ in range(2):  # the answer to the first one was lost
        assert await ledger.settle(settlement("r", COST), token="t") is FIRST
    assert await ledger.settle(settlement("r", HELD)) is SAME
    assert await ledger.void("r", 1, reason) is SAME
    assert await books(ledger, store, realm) == BOOKED


@GUESSES
async def test_an_unknown_outcome_too_until_the_truth_is_known(
    ledger: RedisLedger, store: Store, realm: str, reason: str
) -> None:
    """What whoever made the call presumes is not given back by a guess again; the truth takes its place."""
    await held(ledger)
    assert await ledger.void("r", 1, reason) is DONE
    assert await presume(ledger, HELD) is FIRST
    assert await ledger.void("r", 1, reason) is SAME
    assert await books(ledger, store, realm) == Books(HELD // 1000, 0, HELD, HELD, "presumed")
    assert await ledger.settle(settlement("r", COST)) is LATE
    assert await books(ledger, store, realm) == BOOKED


@pytest.mark.parametrize("source", [CostSource.USAGE, CostSource.PRESUMED], ids=["known", "presumed"])
@pytest.mark.parametrize("lapses", [False, True], ids=["live", "lapsed"])
async def test_what_it_cost_is_counted_where_nobody_has_counted_it(
    ledger: RedisLedger, store: Store, realm: str, source: CostSource, *, lapses: bool
) -> None:
    """A lapse is counted by whoever presumes; a hold that was given back while it was live is by nobody."""
    await held(ledger)
    if lapses:
        await lapsed(ledger, store, realm)
    await ledger.void("r", 1, "not_begun")
    told = replace(settlement("r", HELD), source=source)
    event = HoldEnded(PROJECT, JOB_TYPE, ROUTE, QUALITY, told.cost, told.cost, source, 1)
    seen: list[Event] = []
    await DeferredSettlements(ledger).settle(told, ended=partial(tell_hold, _Seen(seen), event))
    text = scraped_after(*seen)
    where = {"project": PROJECT, "job_type": JOB_TYPE, "route": ROUTE}
    spent = value(text, "spend_usd_total", **where, view="route")
    assert spent == pytest.approx(0 if lapses else HELD / 1e9)
    assert value(text, "unconfirmed_total") == (source is CostSource.PRESUMED and not lapses)
    assert value(text, "images_total", **where, quality=QUALITY) == 1


class _Seen:
    def __init__(self, seen: list[Event]) -> None:
        self.emit = seen.append


async def test_a_gateway_of_an_earlier_version_can_read_how_it_ended(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """It repeats, under its token, what a gateway beside it has told: of the words it knows, this is the nearest."""
    await held(ledger)
    await ledger.void("r", 1, "not_begun")
    assert await ledger.settle(settlement("r", COST)) is FIRST
    kept = json.loads(await store.execute("HGET", Names(realm).request("r"), "e1"))
    assert kept["result"] == "LATE"


@GUESSES
async def test_a_guess_after_the_lease_had_run_out(ledger: RedisLedger, store: Store, realm: str, reason: str) -> None:
    """What was presumed, and given back, is one request still."""
    await held(ledger)
    await lapsed(ledger, store, realm)
    assert await ledger.void("r", 1, reason) is LATE
    assert await ledger.settle(settlement("r", COST)) is LATE
    assert await books(ledger, store, realm) == BOOKED


@GUESSES
async def test_what_its_owner_presumed_is_no_lapse(ledger: RedisLedger, store: Store, realm: str, reason: str) -> None:
    """It was told while the hold was live, by whoever knew that the call had left: no guess gives that back."""
    await held(ledger)
    assert await presume(ledger, HELD) is DONE
    assert await ledger.void("r", 1, reason) is SAME
    assert await books(ledger, store, realm) == Books(HELD // 1000, 0, HELD, HELD, "presumed")


async def test_what_is_presumed_after_a_lapse_and_a_guess_is_unconfirmed(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """In reports, and for whoever reconciles."""
    now = datetime.now(UTC)
    await held(ledger)
    await lapsed(ledger, store, realm)
    assert await ledger.void("r", 1, "not_begun") is LATE
    assert await presume(ledger, HELD) is LATE
    assert await books(ledger, store, realm) == Books(HELD // 1000, 0, HELD, HELD, "presumed")
    [booked] = await booked_at(store, realm, "v", Terms(now - timedelta(days=1), now + timedelta(days=1)))
    assert (booked.cost.route, booked.unconfirmed) == (HELD, HELD)


@GUESSES
async def test_a_rebuilt_ledger_knows_a_guess(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path, reason: str
) -> None:
    """What had lapsed and was given back is booked once its cost is told."""
    await held(ledger)
    await lapsed(ledger, store, realm)
    assert await ledger.void("r", 1, reason) is LATE
    await export(store, realm, tmp_path)
    await empty(store, realm)
    await rebuild(store, realm, export=[tmp_path])
    assert await ledger.settle(settlement("r", COST)) is LATE
    [balance] = await ledger.balances([RULE])
    assert (balance.used, balance.held) == (COST // 1000, 0)
    assert (await audit(store, realm, export=[tmp_path], thorough=True)).agrees


async def test_what_its_owner_gave_back_stays_so(ledger: RedisLedger) -> None:
    """That was no guess."""
    await held(ledger)
    assert await ledger.void("r", 1, "refused") is DONE
    assert await ledger.settle(settlement("r", COST)) is SAME


async def test_a_store_that_lost_the_correction_is_told_it_again(
    ledger: RedisLedger, store: Store, realm: str, server: str
) -> None:
    """It knows the hold as given back, which is not how it ended."""
    other = RedisLedger(store, realm)
    await held(ledger)
    await other.void("r", 1, "cancelled")
    older = copy(server, realm)
    await ledger.settle(settlement("r", COST))
    older.put_back()
    for each in (ledger, other):
        each._resync.begin()
        await resynced(each)
    assert await books(ledger, store, realm) == BOOKED
    await other.aclose()
