"""Idempotency in the store: one name, one request, decided in the same step as its hold."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.budget import Denied, Held
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.task import TaskStatus, task_of
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.ports import LedgerUnavailable
from tests.ledger.rules import ABOUT, budget, candidate, settlement
from tests.ledger.work import new_request, order

RULE = budget(1000)
NAME = "a" * 64
FIRST, SECOND = Binding(NAME, "1" * 64), Binding(NAME, "2" * 64)
CLAIM = Binding("c" * 64, "1" * 64, claim=True)


async def ask(ledger: RedisLedger, request: str, binding: Binding, amount: int = 10) -> Held | Denied | Bound:
    """Ask for a hold with a binding."""
    return await ledger.choose_and_hold(request, [candidate((RULE, amount))], about=ABOUT, binding=binding)


async def test_of_many_at_once_one_is_held(ledger: RedisLedger) -> None:
    """A hundred requests of one name: one hold, and all others hear whose it is."""
    answers = await asyncio.gather(*(ask(ledger, f"r{number}", FIRST) for number in range(100)))
    held = [number for number, answer in enumerate(answers) if isinstance(answer, Held)]
    assert len(held) == 1
    others = [answer for answer in answers if not isinstance(answer, Held)]
    assert others == [Bound(f"r{held[0]}", same=True)] * 99
    [balance] = await ledger.balances([RULE])
    assert balance.held == 10


async def test_another_body_is_told_apart(ledger: RedisLedger) -> None:
    """The name is known with another fingerprint; nothing is held."""
    assert isinstance(await ask(ledger, "a", FIRST), Held)
    assert await ask(ledger, "b", SECOND) == Bound("a", same=False)


async def test_a_denied_request_binds_nothing(ledger: RedisLedger) -> None:
    """What was never held leaves the name free, for another body too."""
    assert isinstance(await ask(ledger, "a", FIRST, 1001), Denied)
    assert isinstance(await ask(ledger, "b", SECOND), Held)


async def test_the_name_is_free_again_once_everything_was_given_back(ledger: RedisLedger) -> None:
    """A request that came to nothing is not repeated to whoever asks again; one that cost something is."""
    assert isinstance(await ask(ledger, "a", FIRST), Held)
    await ledger.void("a", 1, "refused")
    assert isinstance(await ask(ledger, "b", SECOND), Held)
    assert await ask(ledger, "c", SECOND) == Bound("b", same=True)
    await ledger.settle(settlement("b", 5_000))
    assert await ask(ledger, "d", SECOND) == Bound("b", same=True)


@pytest.mark.parametrize("ends", [None, TaskStatus.FAILED])
async def test_the_name_of_a_task_that_rests_is_its_own(
    ledger: RedisLedger, store: Store, realm: str, ends: TaskStatus | None
) -> None:
    """Nothing is held for it between two tries, and yet it will be done: a repeat would be done beside it."""
    tasks, request = RedisTasks(store, realm, worker="one"), new_request()
    offers = [candidate((RULE, 10))]
    held = await ledger.choose_and_hold(request, offers, about=ABOUT, binding=FIRST, ahead=60)
    assert isinstance(held, Held)
    await tasks.add(order(request, hold=held.attempt))
    [taken] = await tasks.take(1)
    tried = await ledger.choose_and_hold(request, offers, about=ABOUT, release=held.attempt)
    assert isinstance(tried, Held)
    assert await tasks.began(task_of(request), taken.token, route="r", attempt=tried.attempt)
    await ledger.void(request, tried.attempt, "refused")
    if ends is not None:
        assert await tasks.end(task_of(request), taken.token, ends)
    again = await ask(ledger, new_request(), FIRST)
    assert isinstance(again, Held) if ends else again == Bound(request, same=True)


async def test_a_fallback_keeps_its_own_name(ledger: RedisLedger) -> None:
    """The second attempt of a request is not taken for a repeat of the first."""
    assert isinstance(await ask(ledger, "a", FIRST), Held)
    again = await ledger.choose_and_hold("a", [candidate((RULE, 5))], about=ABOUT, binding=FIRST, release=1)
    assert isinstance(again, Held)
    assert again.attempt == 2
    assert await ask(ledger, "b", FIRST) == Bound("a", same=True)


async def test_a_binding_ends_after_a_day(ledger: RedisLedger, store: Store) -> None:
    """The store forgets the name by itself."""
    await ask(ledger, "a", FIRST)
    left = int(await store.execute("TTL", ledger._names.binding(NAME)))
    assert 86_000 < left <= 86_400


async def test_an_orphan_is_claimed_once(ledger: RedisLedger) -> None:
    """A retry that says so takes over the request that its client left; the next one finds nothing to take over."""
    assert isinstance(await ask(ledger, "a", CLAIM), Held)
    await ledger.orphan(CLAIM.name, "a")
    assert await ask(ledger, "b", CLAIM) == Bound("a", same=True)
    assert isinstance(await ask(ledger, "c", CLAIM), Held)


async def test_an_orphan_is_found_for_an_hour(ledger: RedisLedger, store: Store) -> None:
    """No SDK's retry comes later; somebody's new request must not be answered with what another left."""
    await ask(ledger, "a", CLAIM)
    await ledger.orphan(CLAIM.name, "a")
    left = int(await store.execute("TTL", ledger._names.binding(CLAIM.name)))
    assert 3_500 < left <= 3_600


async def test_a_retry_that_comes_at_once_waits_until_the_orphan_is_noted(ledger: RedisLedger, store: Store) -> None:
    """A store that has to be taught the script is told of the orphan later than it would be of the retry's hold."""
    await store.execute("SCRIPT", "FLUSH")
    assert isinstance(await ask(ledger, "a", CLAIM), Held)
    left = asyncio.create_task(ledger.orphan(CLAIM.name, "a"))
    await asyncio.sleep(0)
    assert await ask(ledger, "b", CLAIM) == Bound("a", same=True)
    await left


async def test_identical_requests_that_are_left_together_are_all_noted(ledger: RedisLedger, store: Store) -> None:
    """Their connection was one: whichever note the store hears first, none of them fails."""
    for number in range(30):
        await store.execute("SCRIPT", "FLUSH")  # those that teach the store their script end in any order
        name = f"{number:064x}"
        await asyncio.gather(*(ledger.orphan(name, f"{number}-{each}") for each in range(5)))


async def test_a_retry_waits_for_every_note_of_its_name(ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request that was left last may be told of first; the order is that of a busy store, and forced here."""
    hears, write = asyncio.Event(), ledger._calls.write

    async def late(operation: str, what: Script, keys: list[str], args: list[str]) -> object:
        if args[0] == "a":
            await hears.wait()
        return await write(operation, what, keys, args)

    for request in ("a", "b"):
        assert isinstance(await ask(ledger, request, CLAIM), Held)
    with monkeypatch.context() as patched:
        patched.setattr(ledger._calls, "write", late)
        first = asyncio.create_task(ledger.orphan(CLAIM.name, "a"))
        await asyncio.sleep(0)
        await ledger.orphan(CLAIM.name, "b")
    retry = asyncio.create_task(ask(ledger, "c", CLAIM))
    done, _ = await asyncio.wait({retry}, timeout=0.2)
    assert not done
    hears.set()
    await first
    assert await retry == Bound("a", same=True)


async def test_an_orphan_that_came_to_nothing_is_not_claimed(ledger: RedisLedger) -> None:
    """Nobody waits for the answer of a request that was refused."""
    assert isinstance(await ask(ledger, "a", CLAIM), Held)
    await ledger.orphan(CLAIM.name, "a")
    await ledger.void("a", 1, "refused")
    assert isinstance(await ask(ledger, "b", CLAIM), Held)


async def test_a_claim_whose_answer_was_lost_is_claimed_again(ledger: RedisLedger) -> None:
    """The store client repeats an operation whose reply it missed: the same token gets the same request."""
    assert isinstance(await ask(ledger, "a", CLAIM), Held)
    await ledger.orphan(CLAIM.name, "a")
    for _ in range(2):
        answer = await ledger.choose_and_hold("b", [candidate((RULE, 1))], about=ABOUT, binding=CLAIM, token="one")
        assert answer == Bound("a", same=True)
    assert isinstance(await ask(ledger, "c", CLAIM), Held)


async def test_a_claim_is_told_though_the_store_goes_away_right_after(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was noted, so it must not end in an error after which the next retry would pay again.

    The moment between two replies cannot be hit from outside, so the second call fails here by itself.
    """
    assert isinstance(await ask(ledger, "a", CLAIM), Held)
    await ledger.orphan(CLAIM.name, "a")

    async def away(*_: str | int) -> None:
        raise LedgerUnavailable("gone in that moment")

    with monkeypatch.context() as patched:
        patched.setattr(ledger._calls, "execute", away)
        assert await ask(ledger, "b", CLAIM) == Bound("a", same=True)
    await ledger.orphan(CLAIM.name, "a")
    assert await ask(ledger, "c", CLAIM) == Bound("a", same=True)


async def test_what_was_claimed_in_vain_can_be_claimed_again(ledger: RedisLedger) -> None:
    """Whoever claimed it has left as well."""
    assert isinstance(await ask(ledger, "a", CLAIM), Held)
    await ledger.orphan(CLAIM.name, "a")
    assert await ask(ledger, "b", CLAIM) == Bound("a", same=True)
    await ledger.orphan(CLAIM.name, "a")
    assert await ask(ledger, "c", CLAIM) == Bound("a", same=True)


async def test_a_retry_that_is_put_back_leaves_nothing_to_claim(ledger: RedisLedger, store: Store) -> None:
    """A store that lost its hold is told of the hold alone: nobody has left it, so the next request is a new one."""
    assert isinstance(await ask(ledger, "a", CLAIM), Held)
    record = ledger.record_of("a", 1)
    assert record is not None
    await store.execute("DEL", ledger._names.request("a"), ledger._names.balances, ledger._names.due)
    await store.execute("DEL", ledger._names.binding(CLAIM.name))
    await ledger.put_back(record)
    assert not await store.execute("EXISTS", ledger._names.binding(CLAIM.name))
    assert isinstance(await ask(ledger, "b", CLAIM), Held)
