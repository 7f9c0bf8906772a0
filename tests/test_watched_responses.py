"""Work in the background whose events are still read: another gateway follows it if its own goes, and only then."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.domain.responses import Said
from gateway.domain.settlement import Reading
from gateway.ledger.responses import RedisResponses
from gateway.ports import LedgerUnavailable
from gateway.ports.responses import Remembered
from gateway.responses.following import Follower
from gateway.responses.response_tracker import StoredResponseTracker
from tests.rig import Rig, rigged
from tests.test_conversation_cost import quote
from tests.test_followed_responses import follower

BEGUN = Reading(said=Said(id="resp_1", status="in_progress"))
ANSWER: Any = SimpleNamespace(reading=lambda: BEGUN, upstream_request_id="theirs")


class Counted(RedisResponses):
    """The store's responses, of which every gateway is silent at once; `tries` counts what it is told of."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.store, silence=0.0)
        self.tries = 0
        self.away = False

    async def remember(self, response: Remembered) -> bool:
        """Keep it, if the store answers."""
        self.tries += 1
        if self.away:
            raise LedgerUnavailable("away")
        return await super().remember(response)


async def begun(rig: Rig, responses: Counted, follows: Follower, *, background: bool = True) -> StoredResponseTracker:
    """A talk whose answer has said its id, and goes on."""
    exchange: Any = SimpleNamespace(quote=quote(), inbound=rig.inbound(), arm=None)
    talk = StoredResponseTracker(responses, follows, exchange, "team", "draft", Fraction(1), background=background)
    kept: list[bytes] = []

    async def write(chunk: bytes) -> None:
        kept.append(chunk)

    record = talk.recording(3, quote(), ANSWER, write)
    for chunk in (b"one", b"two"):
        await record(chunk)
    assert kept == [b"one", b"two"]
    return talk


async def test_another_gateway_finds_what_it_takes_to_settle_it(tmp_path: Path) -> None:
    """From the first event on, while its own looks at nothing; once it is settled nobody follows it."""
    async with rigged(tmp_path) as rig:
        responses, follows = Counted(rig), follower(rig)
        follows.responses = responses
        talk = await begun(rig, responses, follows)
        assert follows._mine["resp_1"].due == math.inf
        [lapsed] = await responses.lapsed(10)
        assert lapsed.terms is not None
        assert (lapsed.id, lapsed.terms["attempt"], lapsed.terms["upstream_request_id"]) == ("resp_1", 3, "theirs")
        await talk.settled()
        talk.left()
        known = await responses.find("resp_1")
        assert (responses.tries, follows._mine, await responses.lapsed(10)) == (1, {}, [])
        assert known is not None
        assert known.terms is None


async def test_only_work_in_the_background_is_watched(tmp_path: Path) -> None:
    """Whose any other response is the store is told as ever, in one step."""
    async with rigged(tmp_path) as rig:
        responses, follows = Counted(rig), follower(rig)
        talk = await begun(rig, responses, follows, background=False)
        talk.left()
        known = await responses.find("resp_1")
        assert (responses.tries, follows._mine, await responses.lapsed(10)) == (1, {}, [])
        assert known is not None
        assert (known.project, known.terms) == ("team", None)


async def test_it_is_followed_here_once_its_events_are_read_no_further(tmp_path: Path) -> None:
    """Whether they end before it does or are cut short; the store was told all of it already."""
    async with rigged(tmp_path) as rig:
        responses, follows = Counted(rig), follower(rig)
        talk = await begun(rig, responses, follows)
        talk.left()
        assert follows._mine["resp_1"].due < math.inf
        follows.watch(follows._mine["resp_1"].response)
        await talk.hand_over("r", 3, quote(), BEGUN, "theirs")
        assert follows._mine["resp_1"].due < math.inf
        assert responses.tries == 1


async def test_what_the_store_is_told_later_is_followed_by_nobody_if_it_was_settled(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """The store was away from its id to its end: whose it is has still to be told, and nothing else."""
    monkeypatch.setattr("gateway.responses.response_tracker.PAUSES", (0.0,))
    async with rigged(tmp_path) as rig:
        responses, follows = Counted(rig), follower(rig)
        responses.away = True
        talk = await begun(rig, responses, follows)
        assert follows.unsaved["resp_1"].terms is not None
        await talk.settled()
        assert follows.unsaved["resp_1"].terms is None
