"""Keys: shown once, stored hashed, revoked everywhere within seconds."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.domain.caller import Caller
from gateway.ledger import script
from gateway.ledger.errors import PepperMismatch, StoreError
from gateway.ledger.key_format import new_key, well_formed
from gateway.ledger.keyring import RedisKeyring
from gateway.ledger.keys import FOR_GOOD, PAGE, KeyRecord, Keys, UnknownKey, drafted, records_by_digest
from gateway.ledger.names import Names
from gateway.ledger.pepper import check_pepper, load_pepper
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.mortal import MortalServer, back
from tests.ledger.older import copy, empty
from tests.ledger.rules import contents

PEPPER = b"a pepper for tests only"


@pytest.fixture
def keys(store: Store, realm: str) -> Keys:
    """Key management of this test's realm."""
    return Keys(store, PEPPER, realm)


@asynccontextmanager
async def keyring(store: Store, realm: str) -> AsyncIterator[RedisKeyring]:
    """A loaded keyring that follows changes."""
    ring = RedisKeyring(store, PEPPER, realm)
    await ring.load()
    following = asyncio.create_task(ring.run())
    yield ring
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_key_carries_its_checksum() -> None:
    """Every key is well formed, and every slip in typing one is found without a look-up."""
    for _ in range(50):
        key = new_key()
        assert well_formed(key)
        assert len(key) == 40
        other = "a" if key[10] != "a" else "b"
        assert not well_formed(key[:10] + other + key[11:])
        swapped = key[:5] + key[6] + key[5] + key[7:]
        assert swapped == key or not well_formed(swapped)
    key = new_key()
    wrong = ("", "igw_", "sk-123", key[:-1], key + "0", key.upper(), " " + key[1:], "igw_" + "é" * 36, key[:39] + "\n")
    assert not any(well_formed(text) for text in wrong)


async def test_a_new_key_works_at_once_and_is_nowhere_in_the_store(store: Store, realm: str, keys: Keys) -> None:
    """A keyring that was loaded before finds it at its first use; the store has only a keyed hash of it."""
    async with keyring(store, realm) as ring:
        made = await keys.create("marketing", name="web", job_type="hero_image")
        assert await ring.find(made.secret) == Caller(made.record.id, "marketing", "hero_image")
    everything = json.dumps(await contents(store, realm))
    assert made.secret not in everything
    assert made.secret[4:34] not in everything
    assert made.secret not in repr(made)


async def test_a_key_is_known_to_live_by_its_id(store: Store, realm: str, keys: Keys) -> None:
    """One that another instance has just made is looked for; an unknown, expired or revoked one does not live."""
    ring = RedisKeyring(store, PEPPER, realm)
    await ring.load()
    made, old = await keys.create("team"), await keys.create("team", expires=1.0)
    assert await ring.lives(made.record.id)
    assert not await ring.lives(old.record.id)
    assert not await ring.lives("key_unknown")
    await keys.revoke(made.record.id)
    later = RedisKeyring(store, PEPPER, realm)
    await later.load()
    assert not await later.lives(made.record.id)


async def test_a_key_is_known_by_its_mark_as_long_as_it_may_be_used(store: Store, realm: str, keys: Keys) -> None:
    """Once it was found; not after it has expired or was revoked, though the mark is the same."""
    ring = RedisKeyring(store, PEPPER, realm)
    await ring.load()
    made, brief = await keys.create("team"), await keys.create("team", expires=time.time() + 0.5)
    marks = [ring.mark(each.secret) for each in (made, brief)]
    assert [ring.known(mark) for mark in (*marks, b"")] == [None] * 3
    found = [await ring.find(each.secret) for each in (made, brief)]
    assert [ring.known(mark) for mark in marks] == found == [Caller(each.record.id, "team") for each in (made, brief)]
    await asyncio.sleep(0.6)
    assert [ring.known(mark) for mark in marks] == [found[0], None]
    assert await ring.find(brief.secret) is None
    await keys.revoke(made.record.id)
    await ring.load()
    assert [ring.known(mark) for mark in marks] == [None, None]
    assert await ring.find(made.secret) is None


async def test_a_revoked_key_stops_working_in_every_instance_within_five_seconds(
    store: Store, realm: str, keys: Keys
) -> None:
    """Two keyrings that know the key both forget it; the other keys go on."""
    doomed, kept = await keys.create("a"), await keys.create("b")
    async with keyring(store, realm) as first, keyring(store, realm) as second:
        for ring in (first, second):
            assert await ring.find(doomed.secret) is not None
        revoked = await keys.revoke(doomed.record.id)
        async with asyncio.timeout(5):
            for ring in (first, second):
                while await ring.find(doomed.secret) is not None:  # noqa: ASYNC110 - clients, too, only ask again
                    await asyncio.sleep(0.05)
        assert await second.find(kept.secret) is not None
    assert await keys.revoke(doomed.record.id) == revoked
    assert [record.revoked is None for record in await keys.list()] == [False, True]


async def test_rotation_replaces_a_key_at_once_or_after_a_grace(store: Store, realm: str, keys: Keys) -> None:
    """The new key is for the same project, name and job type; the old one ends now, or both work for a while."""
    old = await keys.create("a", name="web", job_type="j")
    new = await keys.rotate(old.record.id)
    newer = await keys.rotate(new.record.id, grace=0.3)
    async with keyring(store, realm) as ring:
        assert await ring.find(old.secret) is None
        assert await ring.find(new.secret) == Caller(new.record.id, "a", "j")
        assert await ring.find(newer.secret) == Caller(newer.record.id, "a", "j")
        await asyncio.sleep(max((await keys.list())[1].expires or 0, 0) - time.time() + 0.01)
        assert await ring.find(new.secret) is None
        assert await ring.find(newer.secret) is not None


@pytest.mark.parametrize("grace", [0.0, 60.0])
async def test_a_revoked_key_stays_as_it_was_when_it_is_replaced(keys: Keys, grace: float) -> None:
    """When it ended is what an audit asks for: a key made in its place does not change that, nor lets it live on."""
    revoked = await keys.revoke((await keys.create("a")).record.id)
    await asyncio.sleep(0.01)
    made = await keys.rotate(revoked.id, grace=grace)
    assert await keys.list() == [revoked, made.record]


@pytest.mark.parametrize("grace", [0.0, 60.0])
async def test_an_expired_key_stays_as_it_was(keys: Keys, grace: float) -> None:
    """Whoever revokes or replaces it afterwards: it ended when it expired."""
    expired = (await keys.create("a", expires=time.time() - 1)).record
    assert await keys.revoke(expired.id) == expired
    made = await keys.rotate(expired.id, grace=grace)
    assert made.grace == 0
    assert await keys.list() == [expired, made.record]


@pytest.mark.parametrize(("revoked", "state"), [(49.0, "revoked"), (51.0, "expired")])
def test_a_key_ends_at_the_earlier_of_its_ends(revoked: float, state: str) -> None:
    """A record may have both."""
    record = KeyRecord("key_x", "a", "", None, created=1.0, revoked=revoked, expires=50.0)
    assert [record.state(at) for at in (min(revoked, 50.0), FOR_GOOD)] == [state] * 2
    assert (record.shown(FOR_GOOD)["revoked"] is None) == (state == "expired")


async def test_how_long_a_key_that_is_replaced_stays_good_is_known(keys: Keys) -> None:
    """For the grace, but for one that ends before it."""
    lasting, brief = (await keys.create("a")).record, (await keys.create("a", expires=time.time() + 50)).record
    assert [(await keys.rotate(lasting.id, grace=grace)).grace for grace in (60.0, 0.0)] == [60.0, 0.0]
    assert 0 < (await keys.rotate(brief.id, grace=60.0)).grace <= 50
    assert (await keys.list())[1] == brief
    assert (await keys.rotate(brief.id, grace=5.0)).grace == 5


@pytest.mark.parametrize("hours", [-1, 1], ids=["behind", "ahead"])
async def test_keys_end_by_the_clock_of_the_store(
    store: Store, realm: str, keys: Keys, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Whatever the clock of a gateway says, or that of the machine on which a key is replaced."""
    seconds, _ = await store.execute("TIME")
    at = int(seconds)
    ended, lasting = [await keys.create("a", expires=at + after) for after in (-1, 600)]
    replaced = await keys.create("a")
    async with keyring(store, realm) as ring:
        wrong = time.time() + 3600 * hours
        monkeypatch.setattr(time, "time", lambda: wrong)
        for _ in range(2):  # looked up, then remembered
            assert await ring.find(ended.secret) is None
            assert await ring.find(lasting.secret) is not None
        assert [await ring.lives(each.record.id) for each in (ended, lasting)] == [False, True]
        await keys.rotate(replaced.record.id, grace=60.0)
        assert await keys.revoke(ended.record.id) == ended.record
        made = await keys.create("a")
    assert at <= made.record.created < at + 60
    [end] = [record.expires for record in await keys.list() if record.id == replaced.record.id]
    assert end is not None
    assert at + 60 <= end < at + 120


async def test_a_gateway_hears_of_a_store_whose_clock_is_another(
    store: Store, realm: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it looks for keys: after a failover, or once somebody has set the clock right."""
    made = await keys.create("a", expires=time.time() + 600)
    monkeypatch.setattr("gateway.ledger.keyring.POLL_SECONDS", 0.01)
    clock = 0.0

    async def told(_: Store) -> float:
        return clock

    async with keyring(store, realm) as ring:
        assert await ring.find(made.secret) is not None
        clock = time.time() + 1200
        monkeypatch.setattr("gateway.ledger.clock.store_time", told)
        await until(lambda: ring.known(ring.mark(made.secret)) is None)


async def test_an_expired_key_and_an_unknown_one_are_nobody(store: Store, realm: str, keys: Keys) -> None:
    """Malformed, unknown and expired keys all answer the same."""
    expired = await keys.create("a", expires=time.time() - 1)
    async with keyring(store, realm) as ring:
        for key in (expired.secret, new_key(), "sk-wrong", "", "igw_\ud800"):
            assert await ring.find(key) is None
    with pytest.raises(UnknownKey, match="ids begin with key_"):
        await keys.revoke("key_none")
    with pytest.raises(UnknownKey):
        await keys.rotate("key_none")


async def test_guessing_keys_does_not_load_the_store(store: Store, realm: str, keys: Keys) -> None:
    """Hundreds of wrong keys at once, with right checksums, cost one look at the store."""
    await keys.create("a")
    async with keyring(store, realm) as ring:
        before = await _commands(store)
        found = await asyncio.gather(*(ring.find(new_key()) for _ in range(300)))
        assert found == [None] * 300
        assert await _commands(store) - before < 10


async def _commands(store: Store) -> int:
    return int((await store.execute("INFO", "stats"))["total_commands_processed"])


async def test_changes_at_the_same_time_are_all_kept(keys: Keys) -> None:
    """Many writers of one key come to one result, and none is lost."""
    made = await keys.create("a")
    others = await asyncio.gather(*(keys.create(f"p{i}") for i in range(20)))
    await asyncio.gather(*(keys.rotate(made.record.id) for _ in range(5)), keys.revoke(others[0].record.id))
    records = await keys.list()
    assert len(records) == 26
    assert sum(record.revoked is not None for record in records) == 2


async def test_a_record_that_changed_since_it_was_read_is_not_written_over(
    store: Store, realm: str, keys: Keys
) -> None:
    """Or a key that was revoked meanwhile would be back; of several records none is written then."""
    names, made = Names(realm), [await keys.create(project) for project in ("a", "b")]
    before = await store.execute("HGETALL", names.keys)
    await keys.revoke(made[1].record.id)
    after = await store.execute("HGETALL", names.keys)
    assert before != after
    stale = [word for where, record in before.items() for word in (where, record, record + " ")]
    assert await store.run(script.WRITE_KEYS, [names.keys, names.meta], stale) == 0
    assert await store.execute("HGETALL", names.keys) == after


async def test_known_keys_go_on_working_while_the_store_is_away(server: str, realm: str, keys: Keys) -> None:
    """Callers are served from memory; whose a key is that is not there cannot be told, but for what can be none."""
    made = await keys.create("a")
    store = Store(server, deadline=10.0)
    ring = RedisKeyring(store, PEPPER, realm)
    await ring.load()
    await store.aclose()
    away = Store("unix:///nowhere.sock")
    ring._store = away
    assert await ring.find(made.secret) is not None
    with pytest.raises(LedgerUnavailable):
        await ring.find(new_key())
    assert await ring.find("sk-not-ours") is None
    await away.aclose()


async def test_a_store_that_was_emptied_gets_its_keys_back(store: Store, realm: str, keys: Keys) -> None:
    """Nobody is locked out, revoked keys stay revoked, and another gateway knows them from the store again."""
    kept, gone = await keys.create("p"), await keys.create("p")
    await keys.revoke(gone.record.id)
    async with keyring(store, realm) as first:
        await empty(store, realm)
        await first._refresh()
        assert await first.find(kept.secret) is not None
        async with keyring(store, realm) as second:
            assert await second.find(kept.secret) is not None
            assert await second.find(gone.secret) is None


async def test_a_store_that_lost_a_change_is_read_anew(tmp_path: Path) -> None:
    """A revocation is seen though it has the number of a change that the store has lost meanwhile."""
    with ExitStack() as stack:
        server = MortalServer(tmp_path / "store", stack)
        store = Store(server.url, deadline=10.0)
        keys, ring = Keys(store, PEPPER), RedisKeyring(store, PEPPER)
        made = await keys.create("a")
        older = copy(server.url, "main")
        await keys.create("a")
        await ring.load()
        older.put_back()
        await keys.revoke(made.record.id)
        server.kill()
        server.restart()
        await back(store)
        await ring._refresh()
        assert await ring.find(made.secret) is None
        await store.aclose()


async def test_many_keys_are_read_in_pages_and_only_what_changed_is_read_again(
    store: Store, realm: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of keys every one is known, a change to one is seen, and costs no look at all the others."""
    drafts = [drafted("team", now=number, name=str(number)) for number in range(5 * PAGE)]
    for start in range(0, len(drafts), 100):
        await asyncio.gather(*(keys.put(draft) for draft in drafts[start : start + 100]))
    ring = RedisKeyring(store, PEPPER, realm)
    await ring.load()
    callers = [await ring.find(draft.secret) for draft in drafts]
    assert [caller and caller.key_id for caller in callers] == [draft.record.id for draft in drafts]

    decoded: list[str] = []

    def counted(raw: Mapping[str, str]) -> dict[str, KeyRecord]:
        decoded.extend(raw)
        return records_by_digest(raw)

    monkeypatch.setattr("gateway.ledger.keyring.records_by_digest", counted)
    await keys.revoke(drafts[7].record.id)
    late = await keys.create("late")
    await ring.load()
    assert len(decoded) == 2
    assert await ring.find(drafts[7].secret) is None
    assert await ring.find(late.secret) == Caller(late.record.id, "late", None)
    assert not await ring.lives(drafts[7].record.id)
    assert all([await ring.find(draft.secret) for draft in (*drafts[:7], *drafts[8:])])


async def test_a_store_that_lost_a_revocation_is_told_again(server: str, store: Store, realm: str, keys: Keys) -> None:
    """A key that was revoked works no more, whatever store takes over; whoever starts then knows it too."""
    made, other = await keys.create("a"), await keys.create("a")
    older = copy(server, realm)
    await keys.revoke(made.record.id)
    async with keyring(store, realm) as first:
        older.put_back()
        await first._refresh()
        assert await first.find(made.secret) is None
        assert await first.find(other.secret) is not None
        async with keyring(store, realm) as second:
            assert await second.find(made.secret) is None
            assert await second.find(other.secret) is not None


async def test_a_record_that_cannot_be_read_keeps_no_other_from_being_revoked(
    store: Store, realm: str, keys: Keys
) -> None:
    """Damage, or what another version has written, is nobody's key, and changes to all others are seen."""
    made = await keys.create("a")
    async with keyring(store, realm) as ring:
        for number, junk in enumerate(('{"id":"key_new","project":"a","more":1}', "[]", "{")):
            await store.execute("HSET", Names(realm).keys, f"{number:064x}", junk)
        await keys.revoke(made.record.id)
        await ring._refresh()
        assert await ring.find(made.secret) is None
        assert [record.id for record in await keys.list()] == [made.record.id]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


async def test_keys_are_followed_beside_another_pepper(
    store: Store, server: str, realm: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that was emptied and begun with another pepper does not end the watch for revocations for good."""
    monkeypatch.setattr("gateway.ledger.keyring.POLL_SECONDS", 0.01)
    keys = Keys(store, PEPPER, realm)
    made = await keys.create("a")
    async with keyring(store, realm) as ring:
        before = copy(server, realm)
        await empty(store, realm)
        await check_pepper(store, b"another pepper altogether", realm)
        await until(lambda: "another pepper" in caplog.text)
        assert await ring.find(new_key()) is None
        before.put_back()
        await keys.revoke(made.record.id)
        await until(lambda: ring._by_id[made.record.id].revoked is not None)
        assert await ring.find(made.secret) is None


async def test_another_pepper_is_found_out(store: Store, realm: str, ledger: RedisLedger) -> None:
    """A gateway with the wrong pepper says so in one line instead of refusing every key."""
    await RedisKeyring(store, PEPPER, realm).load()
    await RedisKeyring(store, PEPPER, realm).load()
    with pytest.raises(PepperMismatch, match="IMAGE_GATEWAY_PEPPER"):
        await RedisKeyring(store, b"another pepper altogether", realm).load()


def test_a_pepper_is_made_once_and_is_private(tmp_path: Path) -> None:
    """The file is readable by its owner alone and stays the same; the environment goes before it."""
    directory = tmp_path / "data"
    made = load_pepper(directory, None)
    assert len(made) >= 32
    assert load_pepper(directory, None) == made
    assert stat.S_IMODE((directory / "pepper").stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == ["pepper"]
    assert load_pepper(directory, "from the environment") == b"from the environment"


def test_a_pepper_that_protects_nothing_is_refused(tmp_path: Path) -> None:
    """Too short, damaged, or not to be read: one line says which."""
    with pytest.raises(StoreError, match="too short"):
        load_pepper(tmp_path, "short")
    (tmp_path / "pepper").write_text("\n")
    with pytest.raises(StoreError, match="damaged"):
        load_pepper(tmp_path, None)
    (tmp_path / "pepper").unlink()
    (tmp_path / "pepper").mkdir()
    with pytest.raises(StoreError, match="pepper file"):
        load_pepper(tmp_path, None)


async def test_keys_that_nobody_has_push_out_no_remembered_one(
    store: Store, realm: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of keys in use is bounded, holds no made-up key, and is not believed after a revocation."""
    monkeypatch.setattr("gateway.ledger.keyring.RECENT", 2)
    made = [await keys.create(f"p{number}") for number in range(3)]
    async with keyring(store, realm) as ring:
        assert await ring.find(made[0].secret) is not None
        for key in ("igw_none", "", made[0].secret + "x"):
            assert await ring.find(key) is None
        assert len(ring._recent) == 1
        assert made[0].secret not in repr(vars(ring)), "a key stays in memory"
        for each in (*made, *made):
            found = await ring.find(each.secret)
            assert found is not None
            assert found.project == each.record.project
            assert len(ring._recent) <= 2
        await keys.revoke(made[2].record.id)
        await ring._refresh()
        assert [await ring.find(made[2].secret) for _ in range(2)] == [None, None]
