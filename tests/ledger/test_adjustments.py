"""Adjustments: what was booked is corrected by an invoice or a refund, once, and the stream tells of it."""

from __future__ import annotations

import pytest

from gateway.domain.budget import View, Window
from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource, Posting, SettleResult
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import budget, candidate, contents, entries, hold, settlement

RULE = budget(1000)
INTERNAL = budget(1000, Window.DAY, view=View.INTERNAL)


async def spent(ledger: RedisLedger) -> list[int]:
    """Micro-USD spent on both budgets."""
    return [balance.used for balance in await ledger.balances([RULE, INTERNAL])]


def cost(route: int, internal: int) -> Views:
    """Nano-USD."""
    return Views(official=route, route=route, internal=internal)


@pytest.mark.parametrize("source", [CostSource.USAGE, CostSource.PRESUMED])
async def test_an_adjustment_replaces_what_was_booked_once(
    source: CostSource, ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Each view's budget feels the difference in its own view; a repeat and a late settlement change nothing."""
    await hold(ledger, "r", candidate((RULE, 100), (INTERNAL, 120)))
    await ledger.settle(settlement("r", 80_000, source=source))
    adjustment = Adjustment("inv-1", "r", 1, cost(30_000, 36_000), "invoice")
    assert await ledger.adjust(adjustment) is SettleResult.DONE
    assert await ledger.adjust(adjustment) is SettleResult.SAME
    assert await spent(ledger) == [30, 36]
    assert await ledger.settle(settlement("r", 1)) is SettleResult.SAME
    *_, last = await entries(store, realm)
    assert (last.kind, last.source, last.cost) == ("adjust", "invoice", Views(-50_000, -50_000, -44_000))
    record = await ledger.request("r")
    assert record is not None
    [attempt] = record["attempts"] if isinstance(record["attempts"], list) else []
    assert (attempt["state"], attempt["cost"], attempt["source"]) == ("settled", cost(30_000, 36_000), "invoice")


async def test_what_was_given_back_can_turn_out_to_cost(ledger: RedisLedger) -> None:
    """The provider billed a call that it had refused."""
    await hold(ledger, "r", candidate((RULE, 100)))
    await ledger.void("r", 1, "refused")
    assert await ledger.adjust(Adjustment("i", "r", 1, cost(9_000, 9_000), "invoice")) is SettleResult.DONE
    assert (await spent(ledger))[0] == 9


async def test_running_and_unknown_requests_are_not_adjusted(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Nothing is written for an attempt that has not ended, or that nobody knows."""
    await hold(ledger, "r", candidate((RULE, 100)))
    before = await contents(store, realm)
    with pytest.raises(LedgerRefused, match="still running"):
        await ledger.adjust(Adjustment("i", "r", 1, cost(1, 1), "invoice"))
    assert await ledger.adjust(Adjustment("i", "nobody", 1, cost(1, 1), "invoice")) is SettleResult.GONE
    assert await contents(store, realm) == before


async def test_a_posting_moves_the_cells_it_names_once(ledger: RedisLedger, store: Store, realm: str) -> None:
    """An amount without a request, up and down; never below what was spent."""
    await hold(ledger, "r", candidate((RULE, 100)))
    await ledger.settle(settlement("r", 50_000))
    [entry] = await entries(store, realm)
    [cell] = entry.lines
    posting = Posting("p", cost(-20_000, -20_000), "refund", {"project": "p", "provider": "v"}, {cell: -20})
    assert await ledger.post(posting) is SettleResult.DONE
    assert await ledger.post(posting) is SettleResult.SAME
    assert (await spent(ledger))[0] == 30
    assert (await entries(store, realm))[-1].project == "p"
    before = await contents(store, realm)
    with pytest.raises(LedgerRefused, match="less is spent"):
        await ledger.post(Posting("q", cost(-40_000, 0), "refund", {}, {cell: -40}))
    assert await contents(store, realm) == before
