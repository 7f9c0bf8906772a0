"""A data directory may have served several stores: what its journal says of one is booked in no other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

from gateway.domain.policy import Policy
from gateway.domain.settlement import CostSource, Settlement
from gateway.ledger.embedded import embedded_store
from gateway.ledger.errors import StoreError
from gateway.ledger.identity import FILE, remember
from gateway.ledger.journal import Journal
from gateway.ledger.journal_lines import PendingWrite, to_line
from gateway.ledger.rebuild import rebuild
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from gateway.process.app import Application, Settings, running_application
from tests.ledger.mortal import MortalServer
from tests.ledger.rules import budget, candidate, hold, settlement
from tests.ledger.servers import kill_server

RULE = budget(1000)
NOTHING = Policy({}, {}, {}, {}, {}, (), "0" * 16)
OURS, OTHERS = "redis://ours", "redis://others"


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalServer]:
    """A server of this test's own."""
    with ExitStack() as stack:
        yield MortalServer(tmp_path / "store", stack)


@asynccontextmanager
async def serving(data: Path, url: str) -> AsyncIterator[Application]:
    """A gateway as it runs, with what it found in the data directory taken over, and told as far as can be."""
    async with running_application(Settings(data=data, grace=5.0), NOTHING, url) as application:
        await application.settlements.take_over()
        yield application


async def spent(application: Application) -> tuple[int, int]:
    """What the budget has spent and holds, micro-USD, once everything that was taken over is told."""
    await application.settlements.aclose(5.0)
    [balance] = await application.ledger.balances([RULE])
    return balance.used, balance.held


async def left_behind(mortal: MortalServer, data: Path) -> None:
    """A gateway holds 100 and settles at 60 while its store is gone; it stops, and the store comes back."""
    async with running_application(Settings(data=data, grace=0.01), NOTHING, mortal.url) as application:
        await hold(application.ledger, "r", candidate((RULE, 100)))
        mortal.kill()
        assert await application.settlements.settle(settlement("r", 60_000)) is None
    mortal.restart()


async def test_the_journal_of_one_store_is_not_booked_in_another(
    mortal: MortalServer, server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway of another store on the same data directory leaves it, and says so; that store's own books it."""
    await left_behind(mortal, tmp_path / "data")
    [file] = (tmp_path / "data" / "journal").iterdir()
    async with serving(tmp_path / "data", server) as application:
        await application.settlements.take_over()
        assert await spent(application) == (0, 0)
        assert await application.ledger.request("r") is None
    assert [record.getMessage().partition(": ")[0] for record in caplog.records if record.levelno == logging.ERROR] == [
        f"journal {file} is left as it is"
    ]
    async with serving(tmp_path / "data", mortal.url) as application:
        assert await spent(application) == (60, 0)


async def test_one_store_by_another_url_is_the_same(mortal: MortalServer, tmp_path: Path) -> None:
    """Its ledger is: the store has moved, say, or has two names."""
    await left_behind(mortal, tmp_path / "data")
    async with serving(tmp_path / "data", f"{mortal.url}?db=0") as application:
        assert await spent(application) == (60, 0)


async def test_a_ledger_rebuilt_while_it_is_served_is_known_by_its_new_identity(
    mortal: MortalServer, tmp_path: Path
) -> None:
    """What the journal has for it since then is booked, also where the store has another URL at the next start."""
    data = tmp_path / "data"
    async with running_application(Settings(data=data, grace=0.01), NOTHING, mortal.url) as application:
        await begin_anew(application.store)
        while True:  # it is noticed by who is refused
            with contextlib.suppress(LedgerUnavailable):
                await hold(application.ledger, "r", candidate((RULE, 100)))
                break
            await asyncio.sleep(0.01)
        mortal.kill()
        assert await application.settlements.settle(settlement("r", 60_000)) is None
    mortal.restart()
    async with serving(data, f"{mortal.url}?db=0") as application:
        assert await spent(application) == (60, 0)


async def test_an_embedded_store_in_a_deep_directory_is_known_at_each_start(tmp_path: Path) -> None:
    """Its socket is reached by another short link each time: emptied it is refused, and its journal is its own."""
    data = tmp_path / ("d" * 60) / ("e" * 60)
    with embedded_store(data) as first:
        async with running_application(Settings(data=data, grace=0.01), NOTHING, first) as application:
            await hold(application.ledger, "r", candidate((RULE, 100)))
            kill_server(data)
            assert await application.settlements.settle(settlement("r", 60_000)) is None
    with embedded_store(data) as second, contextlib.closing(Redis.from_url(second)) as client:
        assert first != second
        client.flushall()
        with pytest.raises(StoreError, match="no ledger any more"):
            async with running_application(Settings(data=data), NOTHING, second):
                pass
        store = Store(second)
        await begin_anew(store)
        await store.aclose()
        async with serving(data, second) as application:
            assert await spent(application) == (60, 0)
    assert list(json.loads((data / FILE).read_text())) == [f"unix://{data}/valkey.sock main"]


async def begin_anew(store: Store) -> None:
    """Lose the history of a store, and accept that."""
    await store.execute("FLUSHALL")
    await rebuild(store, accept_loss=True)


def written(data: Path, store: str) -> PendingWrite:
    """What a gateway that is gone has left for a store; without one as an earlier version wrote it."""
    what = Settlement("r1", 1, settlement("r1", 1000).cost, CostSource.USAGE, 1)
    pending = PendingWrite("token", round(time.time() * 1000), what, None)
    (data / "journal").mkdir()
    (data / "journal" / "main.gone.jsonl").write_bytes(to_line(pending, "main", store))
    return pending


@pytest.mark.parametrize("store", ["", OURS, "redis://never-served"])
async def test_what_no_other_ledger_is_known_to_wait_for_is_taken_over(tmp_path: Path, store: str) -> None:
    """Of earlier versions too, which did not say for which store; and of a ledger that was rebuilt since."""
    for where, epoch in ((OURS, "before"), (OTHERS, "e1"), (OURS, "rebuilt")):
        remember(tmp_path, where, "main", epoch)
    pending = written(tmp_path, store)
    journal = Journal.within(tmp_path, "main", OURS)
    assert await journal.take_over() == [pending]
    journal.done("token")
    await journal.aclose()


async def test_a_ledger_that_lives_on_in_another_store_is_told_by_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rebuilt elsewhere from an export, it has another identity: the message says how its journal is booked there."""
    remember(tmp_path, OURS, "main", "e2")
    alone = (tmp_path / FILE).read_text()
    remember(tmp_path, OTHERS, "main", "e1")
    pending = written(tmp_path, OTHERS)
    journal = Journal.within(tmp_path, "main", OURS)
    assert [await journal.take_over() for _ in range(2)] == [[], []]
    assert caplog.text.count(f"{OTHERS}, and a gateway with that store books it") == 1
    assert f"remove the other from {FILE}" in caplog.text
    await journal.aclose()

    (tmp_path / FILE).write_text(alone)
    journal = Journal.within(tmp_path, "main", OURS)
    assert await journal.take_over() == [pending]
    journal.done("token")
    await journal.aclose()


async def test_what_was_served_cannot_be_read_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can tell whose it is then: it waits, which is said once."""
    remember(tmp_path, OURS, "main", "e1")
    whole = (tmp_path / FILE).read_text()
    pending = written(tmp_path, "redis://ours.alias")
    journal = Journal.within(tmp_path, "main", OURS)
    (tmp_path / FILE).write_text("{")
    assert [await journal.take_over() for _ in range(2)] == [[], []]
    assert caplog.text.count("cannot be taken over yet") == 1
    (tmp_path / FILE).write_text(whole)
    assert await journal.take_over() == [pending]
    journal.done("token")
    await journal.aclose()
