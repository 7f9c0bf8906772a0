"""A response whose id comes while the store is away is known once the store is back: its client will ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.responses import Said
from gateway.domain.settlement import Reading
from gateway.ledger.responses import RedisResponses
from gateway.ports import LedgerUnavailable
from gateway.ports.responses import Remembered
from gateway.responses import following, response_tracker
from gateway.responses.following import Follower
from gateway.responses.response_tracker import StoredResponseTracker
from tests.rig import PATIENCE, Rig, rigged
from tests.test_conversation_cost import quote
from tests.test_followed_responses import follower

UNDER_WAY = Reading(said=Said(id="resp_1", status="queued"), complete=True)


@dataclass
class Away:
    """The store's responses, behind a store that a test takes away."""

    real: RedisResponses
    away: bool = True
    tries: list[str] = field(default_factory=list)

    async def remember(self, response: Remembered) -> bool:
        """Keep it, if the store answers."""
        self.tries.append(response.id)
        if self.away:
            raise LedgerUnavailable("away")
        return await self.real.remember(response)

    async def keep(self, response_ids: Sequence[str]) -> None:
        """Nothing is to be kept here."""

    async def lapsed(self, _most: int) -> Sequence[Remembered]:
        """Nobody else follows anything."""
        return ()


def conversation(rig: Rig, responses: Any, follows: Follower) -> StoredResponseTracker:
    """What is done with the answer to a request of the team."""
    exchange: Any = type("Facts", (), {"quote": quote(), "inbound": rig.inbound(), "arm": None})
    return StoredResponseTracker(responses, follows, exchange, "team", "draft", Fraction(1), background=True)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for seconds."""
    monkeypatch.setattr(response_tracker, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(following, "AGAIN", 0.05)
    monkeypatch.setattr(following, "FIRST", 1000.0)


async def test_it_is_remembered_when_the_store_is_back(tmp_path: Path) -> None:
    """With what settling it takes, for work in the background; nobody pauses twice for a store that stays away."""
    async with rigged(tmp_path) as rig:
        responses, follows = Away(RedisResponses(rig.store)), follower(rig)
        follows.responses = responses  # type: ignore[assignment]  # all of it that is asked here
        said = conversation(rig, responses, follows)
        await said.remember(UNDER_WAY)
        assert len(responses.tries) == 2
        await said.hand_over("r", 1, quote(), UNDER_WAY, "theirs")
        assert len(responses.tries) == 2
        running = asyncio.create_task(follows.run())
        try:
            await asyncio.sleep(0.2)
            assert await responses.real.find("resp_1") is None
            responses.away = False
            async with asyncio.timeout(PATIENCE):
                while (known := await responses.real.find("resp_1")) is None:  # noqa: ASYNC110 - a store tells nobody
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        assert known.project == "team"
        assert known.terms is not None
        assert (known.terms["attempt"], known.terms["upstream_request_id"]) == (1, "theirs")
        assert not follows.unsaved


async def test_no_more_are_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest gives way."""
    monkeypatch.setattr(following, "MOST_UNSAVED", 2)
    async with rigged(tmp_path) as rig:
        follows = follower(rig)
        for name in ("resp_1", "resp_2", "resp_3"):
            follows.tell_later(Remembered(name, "team", "acme", "draft", "r"))
        assert list(follows.unsaved) == ["resp_2", "resp_3"]
