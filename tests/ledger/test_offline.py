"""An allowance is what an outage may cost, to the micro-USD, and all of it is in the books afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.budget import Candidate, Held, Pressure, Scope
from gateway.domain.idempotency import Binding
from gateway.domain.settlement import SettleResult
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.journal import Journal
from gateway.ledger.offline import OfflineLedger
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import Ledger, LedgerUnavailable
from tests.ledger.mortal import DyingProcess, MortalServer, back
from tests.ledger.older import copy, resynced
from tests.ledger.proxy import proxied
from tests.ledger.rules import ABOUT, budget, candidate, concurrent, contents, entries, hold, settlement

RULE = budget(1000)
ALLOWANCE = 300
KEY = Binding("a" * 64, "b" * 64)
CLAIM = Binding("a" * 64, "b" * 64, claim=True)


class Gateway:
    """The money side of one process."""

    def __init__(self, store: Store, journal: Path | None, realm: str = "main", lease: float = 30.0) -> None:
        self.store = store
        self.inner = RedisLedger(store, realm, lease=lease)
        self.settlements = DeferredSettlements(self.inner, Journal(journal, realm) if journal else None)
        self.ledger: Ledger = OfflineLedger(self.inner, self.settlements)

    async def hold(
        self,
        request_id: str,
        micro: int = 100,
        *,
        project: str = "p",
        allowance: int | None = ALLOWANCE,
        release: int | None = None,
        binding: Binding | None = None,
        offers: Sequence[Candidate] | None = None,
    ) -> Held:
        """Hold, and be sure of it; raises LedgerUnavailable."""
        answer = await self.ledger.choose_and_hold(
            request_id,
            offers or [worth(micro)],
            about=ABOUT | {"project": project},
            release=release,
            binding=binding,
            allowance=allowance,
        )
        assert isinstance(answer, Held), answer
        return answer

    async def stand(self) -> tuple[int, int]:
        """What the budget has spent and holds, micro-USD."""
        [balance] = await self.inner.balances([RULE])
        return balance.used, balance.held

    async def told(self) -> None:
        """Wait until the store knows everything."""
        while True:
            if not self.settlements._waiting:
                return
            await asyncio.sleep(0.01)

    async def states(self, request_id: str) -> dict[int, str]:
        """The states of a request's attempts in the store."""
        kept = await self.ledger.request(request_id)
        assert kept is not None
        assert isinstance(kept["attempts"], list)
        return {attempt["attempt"]: attempt["state"] for attempt in kept["attempts"]}


def worth(micro: int, *, route: str = "r") -> Candidate:
    """A candidate whose worst case is that, on a budget and on requests in flight."""
    return candidate((RULE, micro), (concurrent(50), 1), worst=micro * 1000, route=route)


@asynccontextmanager
async def gateway(
    url: str, journal: Path | None, realm: str = "main", lease: float = 30.0, deadline: float = 0.9
) -> AsyncIterator[Gateway]:
    """A gateway that ends without waiting for what the store did not take."""
    store = Store(url, deadline=deadline, silence=deadline)
    made = Gateway(store, journal, realm, lease)
    try:
        yield made
    finally:
        await made.settlements.aclose(0)
        await made.inner.aclose()
        await store.aclose()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalServer]:
    """A server of this test's own."""
    with ExitStack() as stack:
        yield MortalServer(tmp_path / "store", stack)


async def test_the_allowance_is_spent_to_the_last_micro_usd_and_booked(mortal: MortalServer, tmp_path: Path) -> None:
    """What was granted is admitted, then 503; afterwards the books show what it cost, and all is granted again."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        assert (await one.hold("before")).attempt == 1
        mortal.kill()
        held = await one.hold("a", 250)
        assert (held.index, held.attempt, held.lines) == (0, 2, ())
        with pytest.raises(LedgerUnavailable):
            await one.hold("b", 51)
        await one.hold("b", 50)
        with pytest.raises(LedgerUnavailable):
            await one.hold("c", 1)
        await one.hold("free", 0)
        await one.hold("c", 300, project="q")
        assert await one.settlements.settle(settlement("a", 200_000, attempt=2)) is None
        with pytest.raises(LedgerUnavailable):
            await one.hold("d", 1)
        mortal.restart()
        await one.told()
        assert await one.stand() == (200, 100 + 50 + 300)
        assert await one.settlements.settle(settlement("b", 50_000, attempt=2)) is SettleResult.DONE
        assert await one.settlements.settle(settlement("c", 70_000, attempt=2)) is SettleResult.DONE
        assert await one.settlements.void("free", 2, "refused") is SettleResult.DONE
        assert await one.stand() == (320, 100)
        assert [entry.cost.route for entry in await entries(one.store, "main")] == [200_000, 50_000, 70_000]
        assert await one.states("a") == {2: "settled"}
        await one.hold("after", 0)
        mortal.kill()
        await one.hold("e", 300)
        with pytest.raises(LedgerUnavailable):
            await one.hold("f", 1)
        mortal.restart()
        await one.told()
        [flight] = await one.inner.balances([concurrent(50)])
        assert flight.held == 3
    assert list((tmp_path / "journal").iterdir()) == []


async def test_a_hundred_at_once_get_no_more_than_the_allowance(mortal: MortalServer, tmp_path: Path) -> None:
    """However they interleave, the holds of an outage never sum up to more; each is on disk, and booked once."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        await one.hold("before", 1)
        mortal.kill()
        asked = await asyncio.gather(*(one.hold(f"r{n}", 7) for n in range(100)), return_exceptions=True)
        admitted = [n for n, answer in enumerate(asked) if isinstance(answer, Held)]
        assert len(admitted) == 300 // 7
        [file] = (tmp_path / "journal").iterdir()
        assert file.read_bytes().count(b"\n") == len(admitted)
        await asyncio.gather(*(one.settlements.settle(settlement(f"r{n}", 5_000, attempt=2)) for n in admitted))
        mortal.restart()
        await one.told()
        assert await one.stand() == (5 * len(admitted), 1)


async def test_a_ladder_goes_down_with_the_allowance(mortal: MortalServer, tmp_path: Path) -> None:
    """The use of budgets is not known then: the better picture as long as it fits, then the next; both are booked."""
    ladder = [
        replace(worth(120), pressure=Pressure(0, 8_000)),
        replace(worth(50), pressure=Pressure(8_000, 9_500)),
        replace(worth(10), pressure=Pressure(9_500)),
    ]
    async with gateway(mortal.url, tmp_path / "journal") as one:
        await one.hold("before", 800)
        assert (await one.hold("online", offers=ladder)).index == 1
        mortal.kill()
        assert [(await one.hold(f"r{n}", offers=ladder)).index for n in range(4)] == [0, 0, 1, 2]
        with pytest.raises(LedgerUnavailable):
            await one.hold("more", offers=ladder[:1])
        mortal.restart()
        await one.told()
        assert await one.stand() == (0, 800 + 50 + 120 + 120 + 50 + 10)


async def test_without_an_allowance_nothing_is_admitted(mortal: MortalServer, tmp_path: Path) -> None:
    """No allowance, one of nothing, no journal, and a worst case that is not known: 503 as ever."""
    async with gateway(mortal.url, tmp_path / "journal") as one, gateway(mortal.url, None) as memory:
        mortal.kill()
        for allowance in (None, 0):
            with pytest.raises(LedgerUnavailable):
                await one.hold("r", 0, allowance=allowance)
        with pytest.raises(LedgerUnavailable):
            await one.hold("r", offers=[candidate((RULE, 1))])
        with pytest.raises(LedgerUnavailable, match="without a journal"):
            await memory.hold("r", 1)
        with pytest.raises(LedgerUnavailable):
            await one.ledger.ping()
        mortal.restart()
        await back(one.store)
        assert await contents(one.store, "main") == {}


async def test_nothing_is_admitted_that_is_not_on_disk(mortal: MortalServer, tmp_path: Path) -> None:
    """A journal that cannot be written keeps settlements in memory, but lets nothing new through, and takes nothing."""
    (tmp_path / "journal").write_text("a file where the directory should be")
    async with gateway(mortal.url, tmp_path / "journal") as one:
        await one.hold("before")
        mortal.kill()
        with pytest.raises(LedgerUnavailable, match="without a journal"):
            await one.hold("r", 300)
        assert not one.settlements._waiting
        assert await one.settlements.settle(settlement("before", 60_000)) is None
        (tmp_path / "journal").unlink()
        await one.hold("s", 300)
        mortal.restart()
        await one.told()
        assert await one.stand() == (60, 300)


async def test_a_request_that_is_bound_is_not_admitted(mortal: MortalServer, tmp_path: Path) -> None:
    """Nobody can tell whether it was made before: the promise of one call stands above being served."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        await one.hold("before", binding=KEY)
        mortal.kill()
        with pytest.raises(LedgerUnavailable):
            await one.hold("again", binding=KEY)
        await one.hold("claimed", binding=CLAIM)
        mortal.restart()
        await one.told()
        assert await one.stand() == (0, 200)


async def test_the_first_route_that_fits_is_taken(mortal: MortalServer, tmp_path: Path) -> None:
    """As in the store: a route beyond what is left is passed over for a cheaper one, and the record says which."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        mortal.kill()
        offers = [worth(301, route="dear"), worth(300, route="fits"), worth(1, route="cheap")]
        held = await one.hold("r", offers=offers)
        assert held.index == 1
        mortal.restart()
        await back(one.store)
        await one.inner.open()
        await one.told()
        assert await one.settlements.settle(settlement("r", 1_000, attempt=held.attempt)) is SettleResult.DONE
        [entry] = await entries(one.store, "main")
        assert (entry.route, entry.lines) == ("fits", {"usd|everything|route|total@total": 1})


async def test_what_is_given_back_can_be_taken_again(mortal: MortalServer, tmp_path: Path) -> None:
    """A call that was surely not billed frees its part at once, by a void or by the next attempt of its request."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        online = await one.hold("r")
        mortal.kill()
        first = await one.hold("r", 300, release=online.attempt)
        second = await one.hold("r", 300, release=first.attempt)
        assert (first.attempt, second.attempt) == (3, 5)
        with pytest.raises(LedgerUnavailable):
            await one.hold("s", 1)
        assert await one.settlements.void("r", second.attempt, "status_429") is None
        await one.hold("s", 300)
        mortal.restart()
        await one.told()
        assert await one.states("r") == {1: "void", 3: "void", 5: "void"}
        assert await one.stand() == (0, 300)


async def test_attempts_are_told_apart_when_the_store_is_back(mortal: MortalServer, tmp_path: Path) -> None:
    """The attempt after an offline one is a new one, even if the store was not told of the offline one yet."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        await one.hold("r")
        assert await one.settlements.settle(settlement("r", 80_000)) is SettleResult.DONE
        mortal.kill()
        offline = await one.hold("r", 200)
        assert one.settlements._teller is not None
        one.settlements._teller.cancel()  # as if it came too late
        mortal.restart()
        await back(one.store)
        online = await one.hold("r", 50, release=offline.attempt)
        assert (offline.attempt, online.attempt) == (3, 4)
        assert await one.states("r") == {1: "settled", 3: "void", 4: "sent"}
        assert await one.stand() == (80, 50)


async def test_a_hold_whose_answer_was_lost_does_not_stay_beside_the_offline_one(
    server: str, realm: str, tmp_path: Path
) -> None:
    """The store held, nobody heard, the allowance was taken: the store's own hold is given back, the other stands."""
    async with proxied(server, tmp_path) as (wire, url), gateway(url, tmp_path / "journal", realm) as one:
        await one.hold("before", 1)
        wire.mute = True
        held = await one.hold("r", 100)
        async with gateway(server, None, realm, deadline=10) as direct:
            assert await direct.states("r") == {1: "sent"}
            wire.mute = False
            await one.told()
            assert await direct.states("r") == {1: "void", 2: "sent"}
            assert await direct.stand() == (0, 101)
        assert held.attempt == 2
        assert await one.settlements.settle(settlement("r", 60_000, attempt=2)) is SettleResult.DONE


async def test_a_store_that_is_told_what_it_lost_is_away_too(server: str, realm: str, tmp_path: Path) -> None:
    """Its balances are not to be trusted yet, so the allowance is used; all of it is there in the end."""
    async with gateway(server, tmp_path / "journal", realm, deadline=10) as one:
        await one.hold("a", 10)
        old = copy(server, realm)
        await one.hold("b", 20)
        old.put_back()
        assert (await one.hold("c", 40)).lines == ()
        await one.told()
        await resynced(one.inner)
        await one.inner._leases.sweep()
        assert await one.stand() == (0, 70)
        assert await one.settlements.settle(settlement("c", 30_000, attempt=2)) is SettleResult.DONE


@pytest.mark.parametrize("trouble", ["out of memory", "junk beside"])
async def test_a_store_that_answers_and_refuses_is_no_outage(
    trouble: str, mortal: MortalServer, tmp_path: Path
) -> None:
    """It takes back what was held without it, so an allowance would be whole again for every request: none is used."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        await one.hold("before")
        other, cells = budget(1000, scope=Scope(route="other")), one.inner._names.balances
        offers = [candidate((other, 1), (RULE, 301), worst=301_000), worth(100)]
        if trouble == "out of memory":
            await one.store.execute("CONFIG", "SET", "maxmemory", "1")
        else:
            await one.store.execute("HSET", cells, f"{other.meter}@total", "junk")
        for request in ("a", "b"):
            with pytest.raises(LedgerRefused):
                await one.hold(request, offers=offers)
        assert not one.settlements._waiting
        await one.store.execute("CONFIG", "SET", "maxmemory", "0")
        await one.store.execute("HDEL", cells, f"{other.meter}@total")
        assert (await one.hold("a", offers=offers)).lines != ()
        assert await one.stand() == (0, 100 + 301)


async def test_a_store_that_lost_its_ledger_is_away_from_the_first_request_on(
    server: str, realm: str, tmp_path: Path
) -> None:
    """Whoever finds it out is served on the allowance, as all are until it is mended."""
    async with gateway(server, tmp_path / "journal", realm, deadline=10) as one:
        await one.hold("a", 10)
        whole = copy(server, realm)
        await one.store.execute("DEL", one.inner._names.meta)
        assert (await one.hold("b", 20)).lines == ()
        whole.put_back()
        await one.told()
        assert await one.stand() == (0, 30)


async def test_an_allowance_is_whole_again_only_once_the_store_has_held(
    server: str, realm: str, tmp_path: Path
) -> None:
    """It takes what was held without it before it admits anything: a cell that it cannot read keeps it from healing."""
    async with gateway(server, tmp_path / "journal", realm, deadline=10) as one:
        async with not_healing(one, server, realm):
            await one.hold("b", 200)
            await one.told()
            assert await one.stand() == (0, 210)
            with pytest.raises(LedgerUnavailable):
                await one.hold("c", 101)
            await one.hold("c", 100)
            await one.told()
            with pytest.raises(LedgerUnavailable):
                await one.hold("d", 1)
        assert (await one.hold("d", 1)).lines != ()
        one.inner._resync.needed = True  # the next outage
        await one.hold("e", 300)
        one.inner._resync.needed = False


async def test_what_was_given_back_does_not_count_in_the_next_outage(mortal: MortalServer, tmp_path: Path) -> None:
    """The store was told of it all, though nobody has asked it for a hold since."""
    async with gateway(mortal.url, tmp_path / "journal") as one:
        await one.hold("before")
        mortal.kill()
        held = await one.hold("a", 300)
        assert await one.settlements.void("a", held.attempt, "status_429") is None
        mortal.restart()
        await one.told()
        assert await one.stand() == (0, 100)
        mortal.kill()
        await one.hold("b", 300)
        with pytest.raises(LedgerUnavailable):
            await one.hold("c", 1)


async def test_what_a_store_that_admits_nothing_was_given_back_counts_no_more(
    server: str, realm: str, tmp_path: Path
) -> None:
    """It takes each hold and its end at once, and cannot heal: what was not billed frees its part all the same."""
    async with gateway(server, tmp_path / "journal", realm, deadline=10) as one, not_healing(one, server, realm):
        for name in "abcde":
            held = await one.hold(name, 300)
            await one.told()
            assert await one.settlements.void(name, held.attempt, "status_429") is SettleResult.DONE
        await one.hold("f", 200)
        with pytest.raises(LedgerUnavailable):
            await one.hold("g", 101)


@asynccontextmanager
async def not_healing(one: Gateway, server: str, realm: str) -> AsyncIterator[None]:
    """The store came back older, and has a cell that keeps it from being told what it lost."""
    other, cells = budget(1000, scope=Scope(route="other")), one.inner._names.balances
    await one.hold("first", 10)
    old = copy(server, realm)
    await one.hold("lost", offers=[candidate((other, 1), worst=1000)])
    old.put_back()
    await one.store.execute("HSET", cells, f"{other.meter}@total", "junk")
    yield
    await one.store.execute("HDEL", cells, f"{other.meter}@total")
    await resynced(one.inner)


async def takes_and_dies(url: str, journal: str) -> None:
    """What the dying process does: one hold in the store, the outage, two holds on the allowance, and it is killed."""
    async with gateway(url, Path(journal)) as one:
        await one.hold("before")
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await one.hold("known", 100)
        await one.settlements.settle(settlement("known", 70_000, attempt=2))
        await one.hold("unknown", 200)
        os.kill(os.getpid(), signal.SIGKILL)


async def test_a_gateway_killed_in_the_outage_forgets_nothing(mortal: MortalServer, tmp_path: Path) -> None:
    """The next to start books what was settled at its cost, and what was not as presumed, at its worst case."""
    dying = DyingProcess("tests.ledger.test_offline", "takes_and_dies", mortal.url, str(tmp_path / "journal"))
    dying.wait_for("held")
    mortal.kill()
    dying.go_on()
    dying.end()
    mortal.restart()
    async with gateway(mortal.url, tmp_path / "journal", lease=0.2) as one:
        await one.settlements.take_over()
        await one.told()
        assert await one.stand() == (70, 300)
        await asyncio.sleep(0.3)
        await one.inner._leases.sweep()
        assert await one.states("unknown") == {2: "presumed"}
        assert await one.stand() == (270, 100)
        booked = [(entry.kind, entry.cost.route) for entry in await entries(one.store, "main")]
        assert booked == [("settle", 70_000), ("presume", 200_000)]
    assert list((tmp_path / "journal").iterdir()) == []


async def test_other_calls_reach_the_store(server: str, realm: str, tmp_path: Path) -> None:
    """Orphaning, asking and pinging are the store's own business."""
    async with gateway(server, tmp_path / "journal", realm, deadline=10) as one:
        await hold(one.inner, "a", worth(100))
        await one.inner.settle(settlement("a", 60_000))
        await one.ledger.orphan(KEY.name, "a")
        await one.ledger.ping()
        assert await one.states("a") == {1: "settled"}
        assert await one.stand() == (60, 0)
