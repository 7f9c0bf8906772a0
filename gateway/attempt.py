"""Attempts: reserve and send, on one route after another while nothing can have been billed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.errors import GatewayError, RateLimited, Unavailable, UpstreamError, UpstreamTimeout
from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome, Settlement, SettleResult
from gateway.exchange import Admitted
from gateway.observe.event import FellBack, Observer, UpstreamFailed
from gateway.ports import Answer, Ledger, LedgerUnavailable, Provider, Settlements, UpstreamFailure
from gateway.steps.reserve import Reserved, reserve
from gateway.steps.send import send
from gateway.steps.settle import presume

LEDGER_RETRY_AFTER = 2.0
"""Seconds a client is asked to wait when the store does not answer."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A hold whose call was answered; the hold is still to be settled."""

    reserved: Reserved
    answer: Answer
    seconds: float
    """How long the answer's head took."""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """The provider's own refusal of what the client asked; the hold has ended already."""

    reserved: Reserved
    failure: UpstreamFailure


class Attempts:
    """Tries the routes of an admitted request; every hold it takes is ended here or handed on in `Sent`."""

    def __init__(
        self, ledger: Ledger, settlements: Settlements, providers: Mapping[str, Provider], observer: Observer
    ) -> None:
        self._ledger = ledger
        self._settlements = settlements
        self._providers = providers
        self._observer = observer
        self._open: Reserved | None = None

    async def first_that_works(self, admitted: Admitted) -> Sent | PassedOn:
        """Return the first usable answer; raises the error to show if there is none."""
        untried = list(admitted.ranked.quotes)
        failures: list[tuple[Quote, UpstreamFailure]] = []
        last: Reserved | None = None
        while True:
            reserved = await self._reserve(admitted, untried, last, failures)
            if last is not None:
                self._tell_fallback(last, reserved, failures[-1][1])
            untried.remove(reserved.quote)
            result = await self._send(admitted, reserved)
            if isinstance(result, Sent):
                return result
            failures.append((reserved.quote, result))
            more = untried and len(failures) < admitted.job_type.retry.attempts
            if result.pass_on or not more:
                await self._give_back(admitted, reserved, result)
                if result.pass_on:
                    return PassedOn(reserved, result)
                raise failed(failures) from result
            last = reserved

    async def _reserve(
        self,
        admitted: Admitted,
        untried: Sequence[Quote],
        last: Reserved | None,
        failures: Sequence[tuple[Quote, UpstreamFailure]],
    ) -> Reserved:
        release = last.held.attempt if last else None
        admitted.exchange.attempts += 1
        try:
            reserved = await reserve(
                self._ledger, admitted.request_id, untried, admitted.purse, about=admitted.about(), release=release
            )
        except LedgerUnavailable as error:
            # A hold whose answer was lost the ledger gives back by itself; the attempt before it may still be held.
            if release is not None:
                await self._settlements.void(admitted.request_id, release, failures[-1][1].reason)
            self._open = None
            admitted.exchange.attempts -= 1
            raise Unavailable(
                "The ledger does not answer, so nothing can be held; nothing was spent. Please try again.",
                code="ledger_unavailable",
                retry_after=LEDGER_RETRY_AFTER,
            ) from error
        except GatewayError as denial:
            self._open = None  # an earlier attempt was given back in the same step
            admitted.exchange.attempts -= 1
            if failures:
                raise failed(failures) from denial
            raise
        admitted.exchange.quote = reserved.quote
        self._open = reserved
        return reserved

    def _tell_fallback(self, last: Reserved, reserved: Reserved, failure: UpstreamFailure) -> None:
        self._observer.emit(FellBack(last.quote.route.name, reserved.quote.route.name, failure.reason))

    async def _send(self, admitted: Admitted, reserved: Reserved) -> Sent | UpstreamFailure:
        began = time.monotonic()
        try:
            answer = await send(self._providers, admitted.request_id, reserved.quote, admitted.body)
            return Sent(reserved, answer, time.monotonic() - began)
        except UpstreamFailure as failure:
            self._observer.emit(UpstreamFailed(reserved.quote.route.name, failure.reason))
            if failure.outcome is not Outcome.UNKNOWN:
                return failure
            await self._presume(admitted, reserved, failure.reason)
            if failure.pass_on:
                return failure
            raise unknown(failure) from failure
        finally:
            admitted.exchange.upstream_seconds += time.monotonic() - began

    async def _give_back(self, admitted: Admitted, reserved: Reserved, failure: UpstreamFailure) -> None:
        if failure.outcome is not Outcome.UNKNOWN:
            await self._settlements.void(admitted.request_id, reserved.held.attempt, failure.reason)
        self._open = None

    async def interrupted(self, admitted: Admitted) -> None:
        """End the hold that is still open after a cancellation or a fault of ours: the request may have left."""
        if self._open is not None:
            await self._presume(admitted, self._open, "interrupted")

    async def _presume(self, admitted: Admitted, reserved: Reserved, reason: str) -> None:
        """Book the worst case, unconfirmed: nobody knows what the provider did."""
        await self.book(admitted, reserved, presume(admitted.request_id, reserved.held.attempt, reserved.quote, reason))

    async def book(self, admitted: Admitted, reserved: Reserved, settlement: Settlement) -> None:
        """Settle a hold and tell of it."""
        result = await self._settlements.settle(settlement)
        self._open = None
        exchange = admitted.exchange
        exchange.cost, exchange.source, exchange.images = settlement.cost, settlement.source, settlement.images
        if result in (SettleResult.DONE, None):
            self._observer.emit(admitted.hold_ended(reserved.quote, settlement))


def failed(failures: Sequence[tuple[Quote, UpstreamFailure]]) -> GatewayError:
    """Return the error for routes that all failed without billing anything."""
    told = "; ".join(f"{quote.route.name}: {failure.message}" for quote, failure in failures)
    waits = [failure.retry_after or 1.0 for _, failure in failures if failure.reason == "status_429"]
    if len(waits) == len(failures):
        message = f"Every route is at its provider's rate limit ({told}). Nothing was billed; please try again."
        return RateLimited(message, retry_after=min(waits), should_retry=True)
    lasting = all(failure.reason.startswith("account") for _, failure in failures)
    message = f"Every route failed ({told}). Nothing was billed."
    return UpstreamError(message, should_retry=False if lasting else None)


def unknown(failure: UpstreamFailure, *, confirmed: bool = False) -> GatewayError:
    """Return the error for a call that may have been billed, and must not be repeated blindly.

    `confirmed` tells that the answer had said what it cost before it broke off.
    """
    kind = UpstreamTimeout if failure.reason == "timeout" else UpstreamError
    booked = "what it reported was booked" if confirmed else "its worst case was booked as unconfirmed"
    message = f"{failure.message}. The work may have been done and billed; {booked}."
    return kind(message, should_retry=False)
