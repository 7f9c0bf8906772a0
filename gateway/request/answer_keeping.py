"""Answer keeping: an answer that somebody may ask for again is recorded as it goes by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.domain.errors import GatewayError
from gateway.ports import Answers, Headers, Ledger, LedgerUnavailable, Outbound
from gateway.request.exchange import Exchange
from gateway.request.relay import Relay
from gateway.steps.write import COST

log = logging.getLogger(__name__)

ORPHAN_PAUSES = (0.2, 0.4, 0.8, 1.6, 3.2, 0.0)
"""Seconds between the tries to leave a request behind: a retry comes soon, and pays again if it does not find it."""


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that is at hand in one piece."""

    status: int
    headers: Headers
    body: bytes

    def outbound(self) -> Outbound:
        """Return it as an answer to a client."""
        return Outbound(self.status, self.headers, _in_one_piece(self.body))


async def _in_one_piece(body: bytes) -> AsyncIterator[bytes]:
    yield body


def error_answer(error: GatewayError) -> Whole:
    """Return the answer for an error after which money may be spent, as it shall be given to every repetition."""
    body = error.written()
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("x-should-retry", "false")]
    return Whole(error.status, [*headers, *error.headers], body)


class AnswerKeeper:
    """What becomes of the answer to one request.

    Under an idempotency key an answer is kept wherever money may be spent on it, and so is a task's: whoever goes on
    with the task finds it. Without one only a client that was cut off asks again: what it has not got to the end is
    kept, and the ledger is told that it was left behind, but for events that had begun to arrive. What a shadow is to
    be compared with is kept once the client has it.
    """

    __slots__ = (
        "_answers",
        "_complete",
        "_exchange",
        "_held",
        "_keyed",
        "_ledger",
        "_orphan_name",
        "_orphaning",
        "_own_id",
        "_recording",
        "_relay",
        "_request_id",
    )

    def __init__(self, answers: Answers, ledger: Ledger, exchange: Exchange, relay: Relay, *, keyed: bool) -> None:
        self._answers = answers
        self._ledger = ledger
        self._relay = relay
        self._own_id = self._request_id = exchange.inbound.request_id
        self._held = False
        self._orphan_name = exchange.orphan_name
        self._keyed = keyed
        self._exchange = exchange
        self._complete: tuple[int, Headers] | None = None
        self._orphaning: list[asyncio.Task[None]] = []
        if self._orphan_name is not None:
            relay.on_leave = self.leave_behind
        self._recording = answers.record(self._request_id)

    async def write(self, chunk: bytes) -> None:
        """Take some bytes of the answer."""
        await self._recording.write(chunk)

    async def complete(self, status: int, headers: Headers) -> None:
        """Take note that the body is whole; whoever repeats the request finds it from now on.

        The cost is left out: it is not booked yet, and a repetition costs nothing.
        """
        self._complete = (status, [header for header in headers if header[0] != COST])
        if self._keyed or self._left:
            await self._commit()

    async def instead(self, answer: Whole) -> None:
        """Keep this in place of what was recorded."""
        await self.start_over()
        await self.write(answer.body)
        await self.complete(answer.status, answer.headers)

    async def start_over(self) -> None:
        """Let go of what was recorded; another answer follows."""
        await self._recording.discard()
        self._recording = self._answers.record(self._request_id)

    def follow(self, request_id: str) -> None:
        """Take note that the answer is that of another request: if the client leaves, it leaves that one behind."""
        self._request_id = request_id
        if self._relay.client_gone and self._orphan_name is not None:
            self.leave_behind()

    async def end(self) -> None:
        """Let go of what nobody will ask for: the client has got it, or it never became whole."""
        try:
            if self._orphan_name is not None and self._complete is not None:
                await self._relay.until_taken()
                if self._left:
                    await self._commit()
            if self._exchange.sampled:  # by the policy that it was served by, if it waited
                await self._commit()
        finally:
            await self._recording.discard()
        await asyncio.gather(*self._orphaning)

    @property
    def _left(self) -> bool:
        """Whether the client has left so that its library may ask again."""
        return self._relay.client_gone and not self._relay.streaming

    async def _commit(self) -> None:
        if self._complete is not None:
            await self._recording.commit(*self._complete)

    def held(self) -> None:
        """Take note that money is held for the request: from now on there is something to be left behind."""
        first, self._held = not self._held, True
        if first and self._relay.client_gone and self._orphan_name is not None:
            self.leave_behind()

    def leave_behind(self) -> None:
        """Let the next retry take over the request that this one stands for, unless nothing was held for it yet."""
        if self._request_id == self._own_id and not self._held:
            return  # it may end without an answer, for which the retry would wait in vain
        if self._relay.streaming:
            return  # the next retry by this name would be another request's
        self._orphaning.append(asyncio.create_task(self._orphan(self._request_id)))

    async def _orphan(self, request_id: str) -> None:
        assert self._orphan_name is not None
        await leave_behind(self._ledger, self._orphan_name, request_id)


def keeper_of(answers: Answers, ledger: Ledger, exchange: Exchange, relay: Relay) -> AnswerKeeper | None:
    """Return what keeps the answer to a request; None if nobody may ask for it again."""
    binding = exchange.binding
    keyed = (binding is not None and not binding.claim) or exchange.task is not None
    if not (keyed or exchange.sampled or exchange.orphan_name is not None):
        return None
    return AnswerKeeper(answers, ledger, exchange, relay, keyed=keyed)


async def leave_behind(ledger: Ledger, name: str, request_id: str) -> None:
    """Let the next retry by this name take over a request; what the ledger does not take in time is logged."""
    for pause in ORPHAN_PAUSES:
        try:
            await ledger.orphan(name, request_id)
        except LedgerUnavailable as error:
            log.warning("a retry of request %s does not find it, the ledger does not answer: %s", request_id, error)
            await asyncio.sleep(pause)
        else:
            return
