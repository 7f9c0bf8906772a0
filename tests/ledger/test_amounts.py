"""Numbers that are none: refused in Python and, whoever sends them, in the script before its first write."""

from __future__ import annotations

import contextlib
import json

import pytest

from gateway.domain.budget import Line
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ledger import hold_candidates, script, wire
from gateway.ledger.audit import audit
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.rules import ABOUT, balances, budget, candidate, contents, hold, images, settlement

JUNK = ["nan", "inf", "-5", "0.5", "1e3", " 5", "5 ", "", "0x10", "4503599627370497", "9007199254740993", "\u0661"]


@pytest.mark.parametrize("number", [float("nan"), -5, 0.5, 1e3, 2**52 + 1, 2**53 + 1, True, "5"])
async def test_python_refuses_what_is_not_a_whole_number(number: int, ledger: RedisLedger) -> None:
    """A malformed amount never leaves the process."""
    with pytest.raises(ValueError, match="whole number"):
        await ledger.choose_and_hold("r", [candidate((budget(100), number))], about=ABOUT)
    with pytest.raises(ValueError, match="whole number"):
        await ledger.settle(Settlement("r", 1, Views(0, number, 0), CostSource.USAGE, 1))


BARE = ["NaN", "Infinity", "-5", "0.5", "4503599627370497", "9007199254740993", "null", "true", "[]"]
"""What JSON can say in place of a whole number, beside texts."""


@pytest.mark.parametrize("number", [*BARE, *(json.dumps(text) for text in (*JUNK, "5"))])
async def test_the_hold_script_refuses_before_it_writes(
    number: str, ledger: RedisLedger, store: Store, realm: str
) -> None:
    """The last of several lines is malformed, and nothing at all is written."""
    await hold(ledger, "first", candidate((budget(100), 1), (images(5), 1)))
    before = await contents(store, realm)
    offered = hold_candidates.offer_arg(candidate((budget(100), 1), (images(5), 77)))
    names = ledger._names
    keys = [names.meta, names.balances, names.due, names.entries, names.request("r")]
    for bad in (offered.replace(",77,5]", f",{number},5]"), offered.replace(",77,5]", f",77,{number}]")):
        assert bad != offered
        args = [await ledger.open(), "60", "60", "token", "r", "sent,30000,0,,,,,", "{}", bad]
        with pytest.raises(LedgerRefused):
            await ledger._calls.write("hold", script.HOLD, keys, args)
    assert await contents(store, realm) == before


@pytest.mark.parametrize("number", JUNK)
async def test_the_settle_script_refuses_before_it_writes(
    number: str, ledger: RedisLedger, store: Store, realm: str
) -> None:
    """A malformed cost in any place leaves the hold as it was. (Exact nano-USD may be as large as 2^53.)"""
    await hold(ledger, "r", candidate((budget(100), 1)))
    before = await contents(store, realm)
    terms, outcome = wire.settlement_args(settlement("r", 5))
    good, names = terms.split(","), ledger._names
    keys = [names.balances, names.due, names.entries, names.request("r")]
    for place in range(2, len(good)):
        args = ["60", "token", "r", ",".join([*good[:place], number, *good[place + 1 :]]), outcome]
        if number == "4503599627370497" and place in range(3, 6):
            continue
        with pytest.raises(LedgerRefused, match="LEDGER"):
            await ledger._calls.write("settle", script.SETTLE, keys, args)
    assert await contents(store, realm) == before


async def test_the_largest_amounts_stay_exact(ledger: RedisLedger) -> None:
    """2^52 micro-USD are kept to the last one."""
    rule = budget(2**52)
    await hold(ledger, "r", candidate((rule, 2**52 - 3)))
    [balance] = await ledger.balances([rule])
    assert balance.held == 2**52 - 3
    answer = await hold(ledger, "s", candidate((rule, 2)))
    assert answer.figures[0] == 1


@pytest.mark.parametrize("cell", ["", "junk", "5", "-5 0", "nan 0", "1.5 0", "5 1e3", "5  5", "9007199254740993 0"])
async def test_junk_in_a_balance_stops_the_script_before_it_writes(
    cell: str, ledger: RedisLedger, store: Store, realm: str
) -> None:
    """A balance that cannot be read is never overwritten; what was held stays to be settled later."""
    rule, other = budget(100), images(5)
    await hold(ledger, "r", candidate((other, 1), (rule, 1)))
    await store.execute("HSET", ledger._names.balances, f"{rule.meter}@total", cell)
    before = await contents(store, realm)
    with pytest.raises(LedgerRefused, match="LEDGER"):
        await ledger.settle(settlement("r", 5))
    with pytest.raises(LedgerRefused, match="LEDGER"):
        await ledger.void("r", 1, "x")
    with pytest.raises(LedgerRefused, match="LEDGER"):
        await ledger.choose_and_hold("s", [candidate((other, 1), (rule, 1))], about=ABOUT)
    assert await contents(store, realm) == before


async def test_a_key_of_another_type_stops_the_script_before_it_writes(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Something foreign where the entries were is found before the balances are touched."""
    await hold(ledger, "r", candidate((budget(100), 1)))
    name = ledger._names.entries
    await store.execute("DEL", name)
    await store.execute("SET", name, "junk")
    before = await contents(store, realm)
    for attempt in (
        ledger.settle(settlement("r", 5)),
        ledger.choose_and_hold("s", [candidate((budget(100), 1))], about=ABOUT),
    ):
        with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
            await attempt
    assert await contents(store, realm) == before


async def test_a_settlement_is_booked_whole_where_holds_cannot_be_listed(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Something foreign is where the deadlines were, the last that a settlement writes: it is booked, and once."""
    await hold(ledger, "r", candidate((budget(100), 10)))
    await store.execute("DEL", ledger._names.due)
    await store.execute("SET", ledger._names.due, "junk")
    with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
        await ledger.choose_and_hold("s", [candidate((budget(100), 1))], about=ABOUT)
    for _ in range(2):
        with contextlib.suppress(LedgerUnavailable):
            await ledger.settle(settlement("r", 5000), token="t")
    await store.execute("DEL", ledger._names.due)
    assert await balances(store, realm) == {f"{budget(100).meter}@total": (5, 0)}
    assert (await audit(store, realm, thorough=True)).agrees


async def test_a_foreign_member_does_not_stop_the_sweeper(ledger: RedisLedger, store: Store) -> None:
    """Junk among the deadlines, or a damaged record, is left alone; the holds behind it still end."""
    rule = budget(100)
    for request in ("bad", "good"):
        await hold(ledger, request, candidate((rule, 10)))
    await store.execute("HSET", ledger._names.request("bad"), "a1", "junk")
    await store.execute("ZADD", ledger._names.due, 0, "a}:b:1", 1, "bad:1", 2, "good:1")
    await ledger._leases.sweep()
    [balance] = await ledger.balances([rule])
    assert (balance.used, balance.held) == (10, 10)


def test_a_line_is_what_the_script_reads() -> None:
    """Negative limits admit nothing rather than break the script."""
    line = Line(budget(-1), 3)
    assert wire.line_args(line.rule, line.amount) == ["usd", "usd|everything|route|total", "3", "0", "total", "route"]
