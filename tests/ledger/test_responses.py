"""Whose a response is, and who follows it: no project gets at another's, and what has ended is looked at no more."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.ledger.names import Names
from gateway.ledger.responses import RedisResponses
from gateway.ledger.store import Store
from gateway.ports.responses import Remembered

OWN = Remembered("resp_1", "team", "acme", "draft", "req_1", {"attempt": 1})


@pytest.fixture
def responses(store: Store, realm: str) -> RedisResponses:
    """The responses of a realm."""
    return RedisResponses(store, realm)


async def taken_over(store: Store, realm: str) -> list[Remembered]:
    """What another gateway takes over at once, since nobody is heard of."""
    names = Names(realm)
    for response_id in await store.execute("ZRANGE", names.responses_followed, 0, -1):
        await store.execute("ZADD", names.responses_followed, 1, response_id)
    return list(await RedisResponses(store, realm).lapsed(10))


async def test_an_id_that_another_project_has_stays_its_own(
    responses: RedisResponses, store: Store, realm: str
) -> None:
    """Whatever a provider calls it: its project, and how it is settled, are not written over."""
    assert await responses.remember(OWN)
    assert not await responses.remember(replace(OWN, project="other", request_id="req_2", terms={"attempt": 2}))
    assert await responses.find(OWN.id) == OWN
    assert await responses.remember(OWN)
    assert await taken_over(store, realm) == [OWN]


async def test_what_was_deleted_is_followed_unseen_and_gone_once_it_is_settled(
    responses: RedisResponses, store: Store, realm: str
) -> None:
    """Its client has deleted it while its work went on: it is settled, and nothing of it stays."""
    await responses.remember(OWN)
    await responses.forget(OWN.id)
    assert await responses.find(OWN.id) is None
    assert await taken_over(store, realm) == [OWN]
    await responses.done(OWN.id)
    assert await store.execute("EXISTS", Names(realm).response(OWN.id)) == 0


async def test_what_is_settled_is_known_and_followed_by_nobody(
    responses: RedisResponses, store: Store, realm: str
) -> None:
    """Not even if its follower says once more that it is at it, as it does for all that it has."""
    await responses.remember(OWN)
    await responses.done(OWN.id)
    await responses.keep([OWN.id])
    assert await taken_over(store, realm) == []
    assert await responses.find(OWN.id) == replace(OWN, terms=None)
    await responses.forget(OWN.id)
    assert await responses.find(OWN.id) is None


async def test_who_is_heard_of_keeps_what_it_follows(store: Store, realm: str) -> None:
    """Nobody takes it over as long as its follower says that it is at it."""
    short = RedisResponses(store, realm, silence=0.01)
    await short.remember(OWN)
    await RedisResponses(store, realm).keep([OWN.id])
    await asyncio.sleep(0.02)
    assert list(await short.lapsed(10)) == []
