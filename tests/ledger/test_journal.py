"""What the store did not take is on disk before anybody goes on, and reaches the store once."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.domain.settlement import CostSource, Settlement, SettleResult, Usage
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.journal import LARGE, Journal
from gateway.ledger.journal_file import JournalFile
from gateway.ledger.journal_lines import Damaged, PendingWrite, Void, from_line, read_lines, to_line
from gateway.ledger.own_holds import HoldRecord
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.mortal import DyingProcess, MortalServer
from tests.ledger.older import copy
from tests.ledger.rules import budget, candidate, entries, hold, settlement

RULE = budget(1000)
NOW = round(time.time() * 1000)
NOBODY = 65534


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalServer]:
    """A server of this test's own."""
    with ExitStack() as stack:
        yield MortalServer(tmp_path / "store", stack)


@asynccontextmanager
async def gateway(
    url: str, journal: Path, realm: str = "main", lease: float = 30.0
) -> AsyncIterator[tuple[RedisLedger, DeferredSettlements]]:
    """A ledger and its settlements, as a process has them; ends without waiting for what the store did not take."""
    store = Store(url, deadline=0.5, silence=0.5)
    ledger = RedisLedger(store, realm, lease=lease)
    settlements = DeferredSettlements(ledger, Journal(journal, realm))
    yield ledger, settlements
    await settlements.aclose(0)
    await ledger.aclose()
    await store.aclose()


async def stand(ledger: RedisLedger) -> tuple[int, int]:
    """What the budget has spent and holds, micro-USD."""
    [balance] = await ledger.balances([RULE])
    return balance.used, balance.held


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)


async def told(settlements: DeferredSettlements) -> None:
    """Wait until the store knows everything."""
    await until(lambda: not settlements._waiting)


def files(journal: Path) -> dict[str, bytes]:
    """What the journal's directory has: suffix and contents."""
    return {path.name.partition(".")[2].partition(".")[2]: path.read_bytes() for path in journal.iterdir()}


def waiting(journal: Path) -> bool:
    """Tell whether anything is still to be told, in whatever file; one may go meanwhile."""
    with suppress(FileNotFoundError):
        return any(path.stat().st_size for path in journal.iterdir())
    return True


def unsaved(number: int, realm: str = "main") -> PendingWrite:
    """A settlement with everything that one can have, and its hold."""
    usage = Usage(text_in=number, image_out=196)
    cost = settlement(f"r{number}", 1000).cost
    what = Settlement(f"r{number}", 1, cost, CostSource.USAGE, 1, usage, {"size": "1024x1024", "wörds": "…"})
    record = HoldRecord(f"r{number}", 1, f"hold{number}", "sent", NOW, '{"project":"p"}', '[["1","1","1"],"{}",[]]')
    return PendingWrite(f"token{number}", NOW, what, record)


async def test_what_the_store_does_not_take_is_on_disk_and_reaches_it_once(
    mortal: MortalServer, tmp_path: Path
) -> None:
    """Settlements return once their lines are on disk; once the store is back they are booked once."""
    async with gateway(mortal.url, tmp_path / "journal") as (ledger, settlements):
        for number in range(4):
            await hold(ledger, f"r{number}", candidate((RULE, 100)))
        assert await settlements.settle(settlement("r0", 50_000)) is SettleResult.DONE
        assert not (tmp_path / "journal").exists()
        mortal.kill()
        assert await settlements.settle(settlement("r1", 60_000)) is None
        assert await settlements.void("r2", 1, "refused") is None
        [data] = files(tmp_path / "journal").values()
        lines = [json.loads(line[9:]) for line in data.splitlines()]
        assert [(line["op"], line["realm"], line["hold"]["attempt"]) for line in lines] == [
            ("settle", "main", 1),
            ("void", "main", 1),
        ]
        mortal.restart()
        await told(settlements)
        assert await stand(ledger) == (110, 100)
        assert await settlements.settle(settlement("r3", 1_000)) is SettleResult.DONE
        await until(lambda: not any(files(tmp_path / "journal").values()))
        assert [entry.cost.route for entry in await entries(ledger._calls._store, "main")] == [50_000, 60_000, 1_000]
    assert files(tmp_path / "journal") == {}


async def test_many_settle_at_once_while_the_store_is_frozen(mortal: MortalServer, tmp_path: Path) -> None:
    """A frozen store takes nothing; what 300 requests cost is on disk with few writes, and is booked exactly."""
    async with gateway(mortal.url, tmp_path / "journal") as (ledger, settlements):
        for first in range(0, 300, 30):  # an impatient store: what waits behind 300 holds would give up
            await asyncio.gather(*(hold(ledger, f"r{n}", candidate((RULE, 3))) for n in range(first, first + 30)))
        mortal.freeze()
        results = await asyncio.gather(*(settlements.settle(settlement(f"r{n}", 2_000)) for n in range(300)))
        assert set(results) == {None}
        [data] = files(tmp_path / "journal").values()
        assert data.count(b"\n") == 300
        mortal.thaw()
        await told(settlements)
        assert await stand(ledger) == (600, 0)
    assert files(tmp_path / "journal") == {}


async def settles_and_dies(url: str, journal: str) -> None:
    """What the dying process does: it holds, loses the store, settles one and voids one, and is killed."""
    async with gateway(url, Path(journal), lease=0.5) as (ledger, settlements):
        for number in range(3):
            await hold(ledger, f"r{number}", candidate((RULE, 100)))
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await settlements.settle(settlement("r0", 70_000))
        await settlements.void("r1", 1, "refused")
        os.kill(os.getpid(), signal.SIGKILL)


async def test_the_next_to_start_books_what_a_killed_process_had_on_disk(mortal: MortalServer, tmp_path: Path) -> None:
    """Its holds lapsed to presumed spent meanwhile; the journal corrects them, two processes race for it, and once."""
    dying = DyingProcess("tests.ledger.test_journal", "settles_and_dies", mortal.url, str(tmp_path / "journal"))
    dying.wait_for("held")
    mortal.kill()
    dying.go_on()
    dying.end()
    [left] = (tmp_path / "journal").iterdir()
    mortal.restart()
    async with (
        gateway(mortal.url, tmp_path / "journal") as (ledger, settlements),
        gateway(mortal.url, tmp_path / "journal") as (other, others),
    ):
        await asyncio.sleep(0.6)
        await ledger._leases.sweep()
        assert await stand(ledger) == (300, 0)
        loops = [asyncio.create_task(each.run()) for each in (settlements, others)]
        await until(lambda: not left.exists() and not any(files(tmp_path / "journal").values()))
        assert await stand(ledger) == (170, 0)
        booked = await entries(ledger._calls._store, "main")
        assert sorted((entry.kind, entry.cost.route) for entry in booked) == [
            ("correct", -100_000),
            ("correct", -30_000),
            *[("presume", 100_000)] * 3,
        ]
        assert other._holds.live == ledger._holds.live == []
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
    assert files(tmp_path / "journal") == {}


async def test_a_hold_that_the_store_lost_is_put_back_and_settled(
    server: str, realm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway died with a line on disk, and the store came back older than the hold: the cost is booked exactly."""
    async with gateway(server, tmp_path, realm) as (ledger, settlements):
        old = copy(server, realm)
        await hold(ledger, "r", candidate((RULE, 100)))
        await hold(ledger, "v", candidate((RULE, 100)))
        settlements._away = True
        assert await settlements.settle(settlement("r", 70_000)) is None
        assert await settlements.void("v", 1, "refused") is None
    old.put_back()
    await RedisLedger(store := Store(server, deadline=10.0), realm).open()
    async with gateway(server, tmp_path, realm) as (ledger, settlements):
        await ledger.open()
        await settlements.take_over()
        await told(settlements)
        assert await stand(ledger) == (70, 0)
        kept = await ledger.request("v")
        assert kept is not None
        assert [attempt["state"] for attempt in kept["attempts"]] == ["void"]
    assert "2 settlements stay in the journal" in caplog.text
    await store.aclose()


async def test_a_shutdown_leaves_the_rest_for_the_next_start(
    mortal: MortalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who stops while the store is away says so, and the next start books it once however often it is read."""
    async with gateway(mortal.url, tmp_path / "journal") as (ledger, settlements):
        await hold(ledger, "r", candidate((RULE, 100)))
        mortal.kill()
        assert await settlements.settle(settlement("r", 50_000)) is None
        assert await settlements.aclose(0.05) == 1
        await settlements.take_over()
        assert not settlements._waiting
    assert "1 settlements stay in the journal for the next start" in caplog.text
    [data] = files(tmp_path / "journal").values()
    mortal.restart()
    for _ in range(2):
        (tmp_path / "journal" / "main.before.jsonl").write_bytes(data)
        async with gateway(mortal.url, tmp_path / "journal") as (ledger, settlements):
            loop = asyncio.create_task(settlements.run())
            await until(lambda: not waiting(tmp_path / "journal"))  # nor copied and still to be told
            assert await stand(ledger) == (50, 0)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
    assert files(tmp_path / "journal") == {}


def test_a_line_says_what_was_written() -> None:
    """Settlements, voids and holds come back as they were."""
    first = unsaved(1)
    assert first.hold is not None
    promised = replace(first.hold, promised_at=NOW - 86_400_000)
    assert b"promised_at" not in to_line(first, "main")  # which an earlier version could not read
    for each in (
        first,
        PendingWrite("t", NOW, None, promised),
        PendingWrite("t", NOW, Void("r1", 1, "status_429"), first.hold),
        PendingWrite("t", NOW, Void("r1", 2, "x"), None),
        PendingWrite("t", NOW, None, first.hold),
    ):
        line = to_line(each, "main")
        assert line.count(b"\n") == 1
        assert from_line(line.rstrip(b"\n"), "main", NOW) == each


def test_a_cut_at_any_byte_loses_the_last_line_alone() -> None:
    """Wherever a crash cut the last line, those before it are read, and the cut is told of with its number."""
    whole = [unsaved(number) for number in range(3)]
    *_, last = lines = [to_line(each, "main") for each in whole]
    before = b"".join(lines[:2])
    for cut in range(len(last)):
        *good, end = read_lines(before + last[:cut], "main", NOW)
        if cut in (0, len(last) - 1):  # nothing of it, or all but its line break
            assert [*good, end] == whole[: 3 if cut else 2]
        else:
            assert good == whole[:2]
            assert isinstance(end, Damaged)
            assert (end.first, end.last, end.data) == (3, 3, last[:cut] + b"\n")


def with_crc(**said: object) -> bytes:
    """A line whose checksum is right, whatever it says."""
    kept = json.loads(to_line(unsaved(1), "main")[9:]) | said
    body = json.dumps(kept).encode()
    return b"%08x %s" % (zlib.crc32(body), body)


DAY = 86_400_000
DAMAGE = {
    "zeros": (b"\0" * 40, "checksum"),
    "junk": (b"\xff\xfe\x00{}|", "checksum"),
    "empty line": (b"", "checksum"),
    "wrong checksum": (b"0" * 8 + to_line(unsaved(1), "main")[8:-1], "checksum"),
    "no JSON": (b"%08x %s" % (zlib.crc32(b"{"), b"{"), "Expecting"),
    "no map": (b"%08x %s" % (zlib.crc32(b"[]"), b"[]"), "not an entry"),
    "no text": (b"%08x %s" % (zlib.crc32(b"\xff"), b"\xff"), "decode"),
    "unknown operation": (with_crc(op="refund"), "unknown operation 'refund'"),
    "another realm": (with_crc(realm="other"), "realm 'other'"),
    "too old": (with_crc(at=NOW - 26 * DAY), "older than 25 days"),
    "no time": (with_crc(at=None), "no time"),
    "no token": (with_crc(token=""), "no token"),
    "no hold": (with_crc(op="hold", hold=None), "about no hold"),
    "another hold": (with_crc(settlement=json.loads(to_line(unsaved(2), "main")[9:])["settlement"]), "another one"),
    "forged name": (with_crc(op="void", void={"request_id": "a}b", "attempt": 1, "reason": "x"}, hold=None), "a}b"),
    "attempt 0": (with_crc(op="void", void={"request_id": "a", "attempt": 0, "reason": "x"}, hold=None), "from 1"),
    "reason": (with_crc(op="void", void={"request_id": "a", "attempt": 1, "reason": 7}, hold=None), "no text"),
    "malformed hold": (with_crc(hold={"request_id": "r1"}), "not a hold"),
    "malformed settlement": (with_crc(settlement={"request_id": "r1"}), "not an entry"),
}


@pytest.mark.parametrize(("line", "why"), DAMAGE.values(), ids=DAMAGE)
async def test_damage_is_reported_and_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes, why: str
) -> None:
    """A line that cannot be believed is named with file, number and reason; the good ones around it are told."""
    good = [unsaved(2), unsaved(3)]
    first, last = (to_line(each, "main") for each in good)
    (tmp_path / "main.gone.jsonl").write_bytes(first + line + b"\n" + last)
    (tmp_path / "main.killed.jsonl").touch()
    journal = Journal(tmp_path)
    assert await journal.take_over() == good
    assert await journal.take_over() == []
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "main.gone.jsonl, line 2: rejected" in told.getMessage()
    assert why in told.getMessage()
    assert files(tmp_path) == {"jsonl.rejected": line + b"\n", "jsonl": first + last}
    await journal.aclose()


async def test_a_heap_of_junk_is_one_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is all junk is told of once, with its range of lines."""
    (tmp_path / "main.junk.jsonl").write_bytes(b"junk\n" * 1000)
    journal = Journal(tmp_path)
    assert await journal.take_over() == []
    assert [record.getMessage().partition(", ")[2] for record in caplog.records] == [
        "lines 1 to 1000: rejected: cut off, or its checksum is wrong"
    ]
    assert files(tmp_path) == {"jsonl.rejected": b"junk\n" * 1000}
    await journal.aclose()


async def test_files_of_other_realms_and_of_the_living_are_left_alone(tmp_path: Path) -> None:
    """A process takes what is its realm's and nobody's; links and directories of such a name are no files of ours."""
    living, other = Journal(tmp_path), Journal(tmp_path, "main-2")
    assert await living.append(unsaved(1))
    (tmp_path / "main.dir.jsonl").mkdir()
    (tmp_path / "main.link.jsonl").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "main-2.gone.jsonl").write_bytes(to_line(unsaved(2), "main-2"))
    journal = Journal(tmp_path)
    assert await journal.take_over() == []
    assert await other.take_over() == [unsaved(2)]
    assert living._file is not None
    living._file.close()  # as its death would
    living._file = None
    assert await journal.take_over() == [unsaved(1)]
    for each in (living, journal, other):
        await each.aclose()


def _out_of_files(path: object, *_: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))


async def test_a_file_that_cannot_be_opened_for_a_while_is_taken_over_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that is out of open files says so once, and looks again: what stands there is booked all the same."""
    (tmp_path / "main.gone.jsonl").write_bytes(to_line(unsaved(1), "main"))
    journal = Journal(tmp_path)
    assert await journal.take_over() == [unsaved(1)]  # a thread is at hand from here on
    (tmp_path / "main.late.jsonl").write_bytes(to_line(unsaved(2), "main"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "open", _out_of_files)
        assert [await journal.take_over() for _ in range(3)] == [[], [], []]
    assert caplog.text.count("cannot be taken over yet") == 1
    assert await journal.take_over() == [unsaved(2)]
    await journal.aclose()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where somebody else may look: a test's own folder lies in one that is its user's alone."""
    with TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made) / "journal"


@contextmanager
def of_another_user(folder: Path) -> Iterator[None]:
    """Let nobody look into a folder meanwhile, be it root who runs the test."""
    user = os.geteuid()
    folder.chmod(0)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


async def test_a_folder_that_cannot_be_read_is_told_of_and_taken_over_once_it_can(
    mortal: MortalServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing in it is passed over without a word, and as soon as somebody has mended it, it is booked."""
    async with gateway(mortal.url, folder) as (ledger, settlements):
        await hold(ledger, "r1", candidate((RULE, 100)))
        mortal.kill()
        assert await settlements.settle(settlement("r1", 60_000)) is None
    mortal.restart()
    async with gateway(mortal.url, folder) as (ledger, settlements):
        with of_another_user(folder):
            for _ in range(3):
                await settlements.take_over()
        assert caplog.text.count("cannot be read") == 1
        await settlements.take_over()
        assert caplog.text.count("is read again") == 1
        await told(settlements)
        assert await stand(ledger) == (60, 0)


async def test_a_journal_that_cannot_be_written_is_told_of_at_the_start(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not only when the store is away, which is too late to mend it; what can be written leaves nothing behind."""
    journal = Journal(folder)
    await journal.check()
    assert (caplog.text, files(folder)) == ("", {})
    with of_another_user(folder):
        await journal.check()
    assert caplog.text.count("cannot be written") == 1
    assert await journal.append(unsaved(1))
    assert caplog.text.count("is written again") == 1
    await journal.aclose()


async def test_no_folder_yet_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is made when it is first needed."""
    journal = Journal(tmp_path / "gateway" / "journal")
    assert await journal.take_over() == []
    assert caplog.text == ""
    await journal.aclose()


async def test_a_disk_that_takes_nothing_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written waits in memory, counted, and goes to disk with the first lines that can."""
    place = tmp_path / "journal"
    place.write_text("a file where the directory should be")
    journal = Journal(place)
    assert not await journal.append(unsaved(1))
    assert not await journal.append(unsaved(2))
    assert len(journal._unwritten) == 2
    assert caplog.text.count("cannot be written") == 1
    place.unlink()
    assert await journal.append(unsaved(3))
    assert not journal._unwritten
    assert list(read_lines(files(place)["jsonl"], "main", NOW)) == [unsaved(1), unsaved(2), unsaved(3)]
    assert await journal.aclose() == 3


@pytest.mark.parametrize("closing", [True, False])
async def test_what_the_disk_did_not_take_is_written_once_it_does(tmp_path: Path, *, closing: bool) -> None:
    """No later line has to come for that: it is tried again now and then, and at the end for the last time."""
    place = tmp_path / "journal"
    place.write_text("a file where the directory should be")
    journal = Journal(place)
    assert not await journal.append(unsaved(1))
    place.unlink()
    if not closing:
        assert await journal.take_over() == []
        assert list(read_lines(files(place)["jsonl"], "main", NOW)) == [unsaved(1)]
    assert await journal.aclose() == 1
    assert list(read_lines(files(place)["jsonl"], "main", NOW)) == [unsaved(1)]


async def test_a_full_disk_leaves_whole_lines_alone(tmp_path: Path) -> None:
    """A write that breaks off is taken back; the kernel's limit on file size stands for a disk without room."""
    code = (
        "import asyncio, resource, signal, sys\n"
        "from pathlib import Path\n"
        "from gateway.ledger.journal import Journal\n"
        "from tests.ledger.test_journal import unsaved\n"
        "async def work():\n"
        "    journal = Journal(Path(sys.argv[1]))\n"
        "    print([await journal.append(unsaved(n)) for n in range(5)], len(journal._unwritten))\n"
        "    await journal.aclose()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))\n"
        "asyncio.run(work())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    printed, _ = await process.communicate()
    data = files(tmp_path)["jsonl"]
    kept = [each.token for each in read_lines(data, "main", NOW) if isinstance(each, PendingWrite)]
    assert 0 < len(kept) < 5
    assert kept == [f"token{number}" for number in range(data.count(b"\n"))]
    assert printed.decode().split() == f"{[n < len(kept) for n in range(5)]} {5 - len(kept)}".split()


async def test_a_file_does_not_grow_while_one_entry_is_stuck(tmp_path: Path) -> None:
    """One line that the store refuses for ever does not keep ten thousand others on disk."""
    journal = Journal(tmp_path)
    assert await journal.append(unsaved(0))
    for start in range(1, 5_000, 250):
        await asyncio.gather(*(journal.append(unsaved(number)) for number in range(start, start + 250)))
        for number in range(start, start + 250):
            journal.done(f"token{number}")
    await until(lambda: not journal._tasks)
    [data] = files(tmp_path).values()
    assert len(data) < 2 * LARGE
    assert unsaved(0) in read_lines(data, "main", NOW)
    assert await journal.aclose() == 1


async def test_what_was_taken_over_stays_on_disk_until_the_store_knows_it(tmp_path: Path) -> None:
    """Whatever else is done meanwhile: this process may die as well, and the next one finds it."""
    first = Journal(tmp_path, "main")
    assert await first.append(unsaved(1))
    await first.aclose()
    second = Journal(tmp_path, "main")
    assert await second.take_over() == [unsaved(1)]
    assert len(second._live) == 1
    assert await second.append(unsaved(2))
    second.done("token2")
    assert await second.aclose() == 1
    third = Journal(tmp_path, "main")
    found = await third.take_over()
    assert "token1" in [each.token for each in found]
    for each in found:
        third.done(each.token)
    assert await third.aclose() == 0
    assert files(tmp_path) == {}


async def test_an_empty_file_of_somebody_new_may_be_taken_for_an_orphan(tmp_path: Path) -> None:
    """Between making its file and locking it a process can lose it to another; it then makes another one."""
    path = tmp_path / "main.new.jsonl"
    path.touch()
    orphan = JournalFile.take(path)
    assert orphan is not None
    assert JournalFile.take(path) is None
    orphan.remove()
    assert JournalFile.take(path) is None


async def test_an_impossible_cost_is_refused_at_once(server: str, realm: str, tmp_path: Path) -> None:
    """A settlement that the ledger would refuse is refused while the store is away too, and not kept."""
    async with gateway(server, tmp_path / "journal", realm) as (_, settlements):
        settlements._away = True
        for wrong in (settlement("r", -1), settlement("r", 2**53), settlement("a|b\n", 1)):
            with pytest.raises(ValueError, match=r"cost|request id"):
                await settlements.settle(wrong)
        assert not settlements._waiting


async def test_what_waited_is_told_of_once_it_is_booked_and_late_where_it_was_presumed(
    mortal: MortalServer, tmp_path: Path
) -> None:
    """A settlement tells that it ended a hold at once or later; one whose hold had lapsed meanwhile corrects it."""
    done, late = SettleResult.DONE, SettleResult.LATE
    ended: list[tuple[str, SettleResult]] = []

    def end(name: str, result: SettleResult) -> None:
        ended.append((name, result))

    async with gateway(mortal.url, tmp_path / "journal") as (ledger, settlements):
        for name in ("now", "later", "lapsed", "ended"):
            await hold(ledger, name, candidate((RULE, 100)))
        await settlements.settle(settlement("now", 50_000), ended=partial(end, "now"))
        assert ended == [("now", done)]
        presumed = replace(settlement("lapsed", 100_000), source=CostSource.PRESUMED)
        assert await ledger.settle(presumed) is done
        assert await ledger.settle(settlement("ended", 10_000)) is done
        mortal.freeze()
        for name in ("later", "lapsed", "ended"):
            again = settlement(name, 60_000)
            assert await settlements.settle(again, ended=partial(end, name)) is None
        assert ended == [("now", done)]
        mortal.thaw()
        await told(settlements)
        assert sorted(ended) == [("lapsed", late), ("later", done), ("now", done)]
        assert await stand(ledger) == (180, 0)
