"""How counts of rolling windows stand in the store: what is read, what is written, and what stays as it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from gateway.domain.settlement import SettleResult
from gateway.ledger.audit import audit
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import ABOUT, candidate, contents, denied, hold, images, settlement

HOUR = images(20, seconds=3600)  # a bucket is a minute
SUMMED = r"(?P<bytes>[0-9]{1,4}):(?P<sum>[0-9]+) (?P<older>([0-9]+:[0-9]+ )+)(?P<newest>[0-9]+:[0-9]+)"


class Cell:
    """The quota's cell, in buckets counted from the one in which a request was held: `-1:2 0:3`."""

    def __init__(self, ledger: RedisLedger, store: Store) -> None:
        self.ledger = ledger
        self._names = ledger._names
        self._store = store
        self._zero = 0

    async def start(self, request_id: str) -> None:
        """Count from the bucket of this request's first attempt."""
        self._zero = int((await self._kept(request_id))["lines"][0][4])

    async def put(self, text: str, off: int | None = None) -> None:
        """Write it behind the ledger's back, with what saves adding up in front, right or `off`; None: without."""
        raw = self._moved(text, self._zero)
        older, space, newest = raw.rpartition(" ")
        if off is not None and older:
            counts = sum(int(each.partition(":")[2]) for each in older.split())
            raw = f"{len(older + space) + off}:{counts + off} {older}{space}{newest}"
        await self._store.execute("HSET", self._names.balances, HOUR.meter, raw)

    async def text(self) -> str:
        """Return its buckets as they stand, without the sum in front of them, which is right if it is there."""
        raw = str(await self._store.execute("HGET", self._names.balances, HOUR.meter))
        summed = re.fullmatch(SUMMED, raw)
        if summed is not None:
            assert int(summed["bytes"]) == len(summed["older"])
            assert int(summed["sum"]) == sum(int(each.partition(":")[2]) for each in summed["older"].split())
            raw = summed["older"] + summed["newest"]
        return self._moved(raw, -self._zero)

    async def held_in(self, request_id: str, bucket: int) -> None:
        """Have a request's count in another bucket."""
        kept = await self._kept(request_id)
        kept["lines"][0][4] = str(self._zero + bucket)
        await self._store.execute("HSET", self._names.request(request_id), "a1", json.dumps(kept))

    async def later(self, request_id: str) -> int:
        """Return in which bucket a request was held: 0, or 1 if the minute has turned meanwhile."""
        return int((await self._kept(request_id))["lines"][0][4]) - self._zero

    async def _kept(self, request_id: str) -> dict[str, list[list[str]]]:
        kept: dict[str, list[list[str]]] = json.loads(
            await self._store.execute("HGET", self._names.request(request_id), "a1")
        )
        return kept

    @staticmethod
    def _moved(text: str, by: int) -> str:
        return re.sub(r"(-?\d+):", lambda match: f"{int(match[1]) + by}:", text)


@pytest.fixture
async def cell(ledger: RedisLedger, store: Store) -> Cell:
    """The cell, after a request "r" with three images."""
    cell = Cell(ledger, store)
    await hold(ledger, "r", candidate((HOUR, 3)))
    await cell.start("r")
    return cell


SUMS = pytest.mark.parametrize(
    "off", [None, 0, -1, 3], ids=["no sum", "its sum", "a shorter text's", "a longer text's"]
)
"""A sum in front that is not that of the text behind it: somebody wrote there who does not know of it."""

JUNK = ["junk", "1", "1:", ":1", "1:2:3", "1:2x3:4", " 1:2", "1:2  3:4", "-1:2", "1:-2", "1:2.5", "1e3:2", "1:nan"]
TOO_MUCH = ["1:99999999999999999", "9007199254740993:1", "00000000000000001:1", "1:4503599627370497"]


@pytest.mark.parametrize("junk", [*JUNK, *TOO_MUCH])
async def test_junk_stops_every_script_before_it_writes(
    junk: str, ledger: RedisLedger, store: Store, realm: str, cell: Cell
) -> None:
    """Counts that cannot be read are never overwritten, wherever they stand; a cost is booked beside them."""
    del cell  # a request has counted in it
    for text in (junk, f"{junk} 5:1", f"5:1 {junk}"):
        await store.execute("HSET", ledger._names.balances, HOUR.meter, text)
        before = await contents(store, realm)
        with pytest.raises(LedgerRefused, match="LEDGER"):
            await ledger.void("r", 1, "x")
        assert await contents(store, realm) == before
        with pytest.raises(LedgerRefused, match="LEDGER"):
            await ledger.choose_and_hold("s", [candidate((HOUR, 1))], about=ABOUT)
        assert await store.execute("HGET", ledger._names.balances, HOUR.meter) == text
    assert await ledger.settle(settlement("r", 5)) is SettleResult.DONE
    assert await store.execute("HGET", ledger._names.balances, HOUR.meter) == text


@SUMS
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "NOW:2"),
        ("-59:1 -2:5 -1:1", "-59:1 -2:5 -1:1 NOW:2"),
        ("-300:9 -61:9 -2:5", "-2:5 NOW:2"),
        ("-300:99", "NOW:2"),
        ("-300:9 -62:9 -61:7", "NOW:2"),
        ("-59:1 -58:2 -57:3 0:4", "-59:1 -58:2 -57:3 0:6"),
        ("-1:2 50:3 900000:4", "-1:2 NOW:9"),
        ("900000:4", "NOW:6"),
    ],
    ids=[
        "empty",
        "live",
        "expired and live",
        "expired",
        "all expired",
        "present",
        "of the future",
        "of the future alone",
    ],
)
async def test_a_hold_counts_beside_what_still_counts(
    before: str, after: str, off: int | None, ledger: RedisLedger, cell: Cell
) -> None:
    """What has left the window goes, what stands in the future ends with the present, the rest stays as it is."""
    await cell.put(before, off)
    answer = await hold(ledger, "s", candidate((HOUR, 2)))
    now = await cell.later("s")
    if now == 0:  # in the next minute the oldest bucket is gone
        assert await cell.text() == after.replace("NOW", str(now))
        counts = [int(each.partition(":")[2]) for each in after.split()]
        assert answer.figures[0] == 20 - sum(counts)


async def test_a_second_hold_of_a_bucket_adds_to_its_count(ledger: RedisLedger, cell: Cell) -> None:
    """A bucket is written once, however many holds count in it; a hold of nothing leaves no bucket behind."""
    await cell.put("-5:2")
    await hold(ledger, "s", candidate((HOUR, 0)))
    assert await cell.text() == "-5:2"
    await hold(ledger, "t", candidate((HOUR, 1)))
    await hold(ledger, "u", candidate((HOUR, 4)))
    first, second = await cell.later("t"), await cell.later("u")
    assert await cell.text() == (f"-5:2 {first}:5" if first == second else f"-5:2 {first}:1 {second}:4")


@SUMS
@pytest.mark.parametrize(
    ("bucket", "before", "after"),
    [
        (0, "0:3", ""),
        (0, "-2:5 -1:1 0:7", "-2:5 -1:1 0:4"),
        (0, "-2:5 -1:1 0:3", "-2:5 -1:1"),
        (-1, "-2:5 -1:8 0:2", "-2:5 -1:5 0:2"),
        (-1, "-2:5 -1:3 0:2", "-2:5 0:2"),
        (-2, "-2:3 -1:1 0:2", "-1:1 0:2"),
        (-2, "-2:9 -1:1 0:2", "-2:6 -1:1 0:2"),
        (-1, "-2:5 -1:2 0:2", "-2:5 0:2"),
        (-1, "-11:5 0:2", "-11:5 0:2"),
        (-1, "", ""),
    ],
)
async def test_a_void_takes_its_count_out_of_its_own_bucket(
    bucket: int, before: str, after: str, off: int | None, cell: Cell
) -> None:
    """What was never used is free again at once, and never more than its bucket still has."""
    await cell.held_in("r", bucket)
    await cell.put(before, off)
    await cell.ledger.void("r", 1, "x")
    assert await cell.text() == after
    [balance] = await cell.ledger.balances([HOUR])
    assert balance.used == sum(int(each.partition(":")[2]) for each in after.split())


async def test_a_settlement_leaves_the_counts_as_they_are(ledger: RedisLedger, cell: Cell) -> None:
    """What was asked for stays counted until its window has passed."""
    await cell.put("-2:5 -1:1 0:3")
    await ledger.settle(settlement("r", 5))
    assert await cell.text() == "-2:5 -1:1 0:3"


async def test_what_a_hold_leaves_has_its_sum_in_front(ledger: RedisLedger, store: Store, cell: Cell) -> None:
    """Sixty buckets need not be added up at every hold; one alone, and a count of nothing, need no sum."""
    await cell.put("-5:2 -3:4 -1:1")
    await hold(ledger, "s", candidate((HOUR, 2)))
    raw = str(await store.execute("HGET", ledger._names.balances, HOUR.meter))
    summed = re.fullmatch(SUMMED, raw)
    assert summed is not None
    assert int(summed["sum"]) == 2 + 4 + 1
    assert (await audit(store, ledger._names.realm)).agrees


async def test_junk_that_leaves_the_window_is_found_behind_a_sum_too(ledger: RedisLedger, store: Store) -> None:
    """What a sum spares is adding up what stays; what goes is read one by one."""
    await store.execute("HSET", ledger._names.balances, HOUR.meter, "8:9 1:9 2x9 3:1")
    with pytest.raises(LedgerRefused, match="junk"):
        await ledger.choose_and_hold("s", [candidate((HOUR, 1))], about=ABOUT)


@SUMS
@pytest.mark.parametrize(
    ("before", "after"), [("50:20", "NOW:20"), ("-1:2 50:9 900000:9", "-1:2 NOW:18")], ids=["alone", "with others"]
)
async def test_a_denial_dates_what_stands_in_the_future(
    before: str, after: str, off: int | None, ledger: RedisLedger, cell: Cell
) -> None:
    """Nothing else writes a count that is full: left as it is, it would stay so until the clock got there."""
    await cell.put(before, off)
    refused = await denied(ledger, "s", candidate((HOUR, 18)))
    text = await cell.text()
    now = int(text.rpartition(" ")[2].partition(":")[0])
    assert now in {0, 1}
    assert text == after.replace("NOW", str(now))
    assert 3500 < refused.obstacles[0][0].wait <= 3660


async def test_a_denial_leaves_other_counts_as_they_are(ledger: RedisLedger, store: Store, cell: Cell) -> None:
    """What has no need of it is not written, not even for its sum."""
    await cell.put("-30:4 -20:6 0:10")
    before = await store.execute("HGET", ledger._names.balances, HOUR.meter)
    await denied(ledger, "s", candidate((HOUR, 1)))
    assert await store.execute("HGET", ledger._names.balances, HOUR.meter) == before


@SUMS
async def test_a_denial_waits_for_the_bucket_whose_end_makes_room(
    off: int | None, ledger: RedisLedger, cell: Cell
) -> None:
    """Of many buckets the one is named after whose end the request passes."""
    await cell.put("-30:4 -20:6 -10:5 0:5", off)
    waits = [(await denied(ledger, "s", candidate((HOUR, count)))).obstacles[0][0].wait for count in (4, 5, 10, 11)]
    assert [round((wait - waits[0]) / 60) for wait in waits] == [0, 10, 10, 20]


async def test_a_hold_that_is_put_back_late_counts_as_the_newest(ledger: RedisLedger, cell: Cell, store: Store) -> None:
    """Buckets stand in their order, so what was held ten minutes ago counts in the one that is there."""
    record = ledger.record_of("r", 1)
    assert record is not None
    await store.execute("DEL", ledger._names.request("r"), ledger._names.due)
    await cell.put("-1:5 0:2")
    await ledger.put_back(replace(record, at=record.at - 600_000))
    assert await cell.text() == "-1:5 0:5"
    assert await cell.later("r") == -10
