"""Following: responses whose work goes on at their provider are looked at until they have ended, and settled then.

Each process follows its own; those of one that died are taken over by others. What is needed to settle lies in
the store, so it makes no difference who does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

from gateway.domain.policy import Policy
from gateway.domain.responses import ENDED
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Reading, Settlement
from gateway.observe.event import Observer
from gateway.ports import LedgerUnavailable, Settlements
from gateway.ports.provider import UpstreamFailure
from gateway.ports.responses import PassthroughAccounts, Remembered, Responses
from gateway.responses.settle import settle
from gateway.responses.terms import quote_of
from gateway.responses.told_response import tell

log = logging.getLogger(__name__)

FIRST, LONGEST = 0.5, 5.0
"""Seconds before the first look and between two looks; they grow from one to the other."""
GROWTH = 1.4
AT_ONCE = 20
"""Looks under way."""
TICK = 0.25
PATIENCE = 24 * 3600.0
"""Seconds after which work that does not end is booked at its worst case."""
NOT_FOUND = 404
FORGOTTEN = 60.0
"""Seconds before an account that does not know a response is believed: one just made may not be everywhere yet."""
AGAIN = 1.0
"""Seconds between the tries to have the store remember responses that it could not be told of."""
MOST_UNSAVED = 10_000
"""Responses kept for that; what comes beyond them takes the place of the oldest."""


@dataclass(slots=True)
class _Following:
    response: Remembered
    due: float
    pause: float = FIRST
    looking: bool = False


@dataclass(slots=True)
class Follower:
    """Follows responses. One instance per process; `silence` is seconds after which others take over."""

    responses: Responses
    accounts: PassthroughAccounts
    settlements: Settlements
    observer: Observer
    policy: Callable[[], Policy]
    silence: float = 30.0
    _mine: dict[str, _Following] = field(default_factory=dict)
    _looks: set[asyncio.Task[None]] = field(default_factory=set)
    unsaved: dict[str, Remembered] = field(default_factory=dict)
    """What the store could not be told of, oldest first: their clients have the ids and will ask for them."""

    def follow(self, response: Remembered) -> None:
        """Follow a response from now on."""
        self._mine[response.id] = _Following(response, time.monotonic() + FIRST)

    def watch(self, response: Remembered) -> None:
        """Keep others from following a response whose answer is read here, until `follow` or `over`."""
        self._mine[response.id] = _Following(response, math.inf)

    async def over(self, response_id: str) -> None:
        """Follow a response no more: it is settled."""
        self._mine.pop(response_id, None)
        if (unsaved := self.unsaved.get(response_id)) is not None:
            self.unsaved[response_id] = replace(unsaved, terms=None)
        try:
            await self.responses.done(response_id)
        except LedgerUnavailable as error:
            log.warning("response %s will be looked at again: %s", response_id, error)

    def tell_later(self, response: Remembered) -> None:
        """Have the store remember a response as soon as it answers again."""
        self.unsaved[response.id] = response
        if len(self.unsaved) > MOST_UNSAVED:
            del self.unsaved[next(iter(self.unsaved))]

    async def run(self) -> None:
        """Look at what is due, tell the store, and take over from others, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look())
                group.create_task(self._keep())
                group.create_task(self._tell())
        finally:
            for look in self._looks:
                look.cancel()
            await asyncio.gather(*self._looks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            due = [each for each in self._mine.values() if each.due <= now and not each.looking]
            for each in due[: max(AT_ONCE - len(self._looks), 0)]:
                each.looking = True
                look = asyncio.create_task(self._see_to(each))
                self._looks.add(look)
                look.add_done_callback(self._looked)

    def _looked(self, look: asyncio.Task[None]) -> None:
        self._looks.discard(look)
        if not look.cancelled() and (error := look.exception()) is not None:
            log.error("a response could not be looked at", exc_info=error)

    async def _keep(self) -> None:
        while True:
            try:
                await self.responses.keep(list(self._mine))
                for response in await self.responses.lapsed(AT_ONCE):
                    self.follow(response)
            except LedgerUnavailable as error:
                log.warning("responses are followed without the store: %s", error)
            await asyncio.sleep(self.silence / 6 * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(LedgerUnavailable):
                for response in list(self.unsaved.values()):
                    await remember(self.responses, response)
                    if self.unsaved.get(response.id) is response:
                        del self.unsaved[response.id]

    async def _see_to(self, each: _Following) -> None:
        try:
            reading = await self._reading(each)
            if reading is not None:
                await self._settle(each.response, reading)
        finally:
            each.looking = False
            each.pause = min(each.pause * GROWTH, LONGEST)
            each.due = time.monotonic() + each.pause * random.uniform(0.8, 1.0)  # noqa: S311 - jitter, not a secret

    async def _reading(self, each: _Following) -> Reading | None:
        """Return what is to be settled by; None while the work goes on."""
        response = each.response
        assert response.terms is not None
        since = response.terms["since"]
        age = time.time() - since if isinstance(since, float) else 0.0
        over = age > PATIENCE
        try:
            reading = await self.accounts.look(response.provider, response.id)
        except UpstreamFailure as failure:
            return Reading() if over or (failure.status == NOT_FOUND and age > FORGOTTEN) else None
        return reading if over or _has_ended(reading) else None

    async def settle_if_ended(self, response: Remembered) -> None:
        """Settle a response by what its account says of it now, if it has ended; else nothing changes."""
        with contextlib.suppress(UpstreamFailure):
            reading = await self.accounts.look(response.provider, response.id)
            if _has_ended(reading):
                await self._settle(response, reading)

    async def _settle(self, response: Remembered, reading: Reading) -> None:
        terms: Mapping[str, Any] = response.terms or {}
        quote, own_id = quote_of(terms, self.policy()), terms.get("upstream_request_id")
        if quote is None:
            worst = Views(*terms["worst"])
            facts: dict[str, object] = {"reason": "route_gone", "response": response.id}
            facts |= {"upstream_request_id": own_id} if own_id else {}
            settlement = Settlement(response.request_id, terms["attempt"], worst, CostSource.PRESUMED, 0, None, facts)
        else:
            multiplier = Fraction(terms["multiplier"])
            settlement = settle(
                response.request_id, terms["attempt"], quote, reading, multiplier, upstream_request_id=own_id
            )
        await self.settlements.settle(settlement, ended=partial(tell, self.observer, response, settlement, reading))
        await self.over(response.id)


def _has_ended(reading: Reading) -> bool:
    """Tell whether nothing more is to be learned: also of what is too long to be read, which is booked at its most."""
    ended = reading.unread or (reading.said is not None and reading.said.status in ENDED)
    return reading.complete and ended


async def remember(responses: Responses, response: Remembered) -> None:
    """Have the store remember a response; raises LedgerUnavailable."""
    if not await responses.remember(response):
        log.error("response %s is another project's already, or has no usable id", response.id)
