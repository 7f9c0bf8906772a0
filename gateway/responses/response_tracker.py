"""Response tracker: remembers and follows the response to one Responses API request."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from fractions import Fraction

from gateway.domain.responses import UNDER_WAY
from gateway.domain.route import Quote
from gateway.domain.settlement import Reading
from gateway.ports import LedgerUnavailable
from gateway.ports.provider import Answer
from gateway.ports.responses import Remembered, Responses, Write
from gateway.request.exchange import Exchange
from gateway.responses.following import Follower, remember
from gateway.responses.terms import followed

log = logging.getLogger(__name__)

PAUSES = (0.2, 0.8, 2.0, 0.0)
"""Seconds between the tries to remember a response: its client cannot go on from one that is not known."""


@dataclass(slots=True)
class StoredResponseTracker:
    """Implements `ports.responses.ResponseTracker`."""

    responses: Responses
    follower: Follower
    exchange: Exchange
    project: str
    job_type: str
    multiplier: Fraction
    background: bool = False
    """Whether its work goes on whether or not the answer arrives."""
    _known: str | None = None
    _watched: Remembered | None = None
    """Work in the background whose events are still read here, with what settling it takes."""

    def recording(self, attempt: int, quote: Quote, answer: Answer, write: Write) -> Write:
        """Return what takes the bytes of an answer and remembers whose it is as soon as the answer says its id."""
        self._known = None

        async def record(chunk: bytes) -> None:
            await write(chunk)
            if self._known is None:
                await self._met(attempt, quote, answer)

        return record

    async def _met(self, attempt: int, quote: Quote, answer: Answer) -> None:
        """Remember it, once it has said its id; others can follow work in the background from then on."""
        reading = answer.reading()
        if self.background and (said := reading.said) is not None and said.status in UNDER_WAY:
            response = self._response(reading, quote.route.provider.name, self.exchange.inbound.request_id)
            if response is not None:
                self._known = response.id
                self._watched = response = self._followed(response, attempt, quote, answer.upstream_request_id)
                self.follower.watch(response)
                await self._remember(response)
        else:
            await self.remember(reading)

    def goes_on(self, reading: Reading) -> bool:
        """Tell whether the work goes on in the background: the answer says so, or it broke off before its end.

        Events of work in the background are only a view of it: it can be asked for by its id whatever becomes of them.
        """
        said = reading.said
        if said is None or said.id is None:
            return False
        return said.status in UNDER_WAY and (reading.complete or self.background)

    async def hand_over(
        self,
        request_id: str,
        attempt: int,
        quote: Quote,
        reading: Reading,
        upstream_request_id: str | None,
        *,
        counted: bool = False,
    ) -> None:
        """Have the work followed to its end and settled then."""
        response = self._watched or self._response(reading, quote.route.provider.name, request_id)
        if response is None:
            return
        if self._watched is None or counted:
            response = self._followed(response, attempt, quote, upstream_request_id, counted=counted)
            await self._remember(response)
        self.follower.follow(response)
        self._watched = None

    async def settled(self) -> None:
        """Have it followed no more: what it cost is booked."""
        if self._watched is not None:
            await self.follower.over(self._watched.id)
            self._watched = None

    def left(self) -> None:
        """Have it followed from now on, if it is neither settled nor handed over: its answer is read no further."""
        if self._watched is not None:
            self.follower.follow(self._watched)

    async def remember(self, reading: Reading) -> None:
        """Remember whose it is, once it has said its id."""
        quote = self.exchange.quote
        provider = quote.route.provider.name if quote is not None else ""
        response = self._response(reading, provider, self.exchange.inbound.request_id)
        if response is not None and response.id != self._known:
            self._known = response.id
            await self._remember(response)

    def _response(self, reading: Reading, provider: str, request_id: str) -> Remembered | None:
        said = reading.said
        if said is None or said.id is None:
            return None
        return Remembered(said.id, self.project, provider, self.job_type, request_id)

    def _followed(
        self,
        response: Remembered,
        attempt: int,
        quote: Quote,
        upstream_request_id: str | None,
        *,
        counted: bool = False,
    ) -> Remembered:
        arm, theirs = self.exchange.arm, upstream_request_id
        return followed(response, attempt, quote, self.multiplier, arm, upstream_request_id=theirs, counted=counted)

    async def _remember(self, response: Remembered) -> None:
        """Remember it before its client goes on; where the store stays away, as soon as it is back."""
        for pause in () if response.id in self.follower.unsaved else PAUSES:
            try:
                await remember(self.responses, response)
            except LedgerUnavailable as error:
                log.warning("response %s is not remembered, the store does not answer: %s", response.id, error)
                await asyncio.sleep(pause)
            else:
                return
        self.follower.tell_later(response)
